"""One look at a site: what its API server says of nodes and tasks, and what is told of that. Reading, then pure.

Told are a pulse, which the agent sends to the hub, and a status, which a Beidou message carries when nothing else can.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from cumulet.core.api import Api, Json
from cumulet.models import FROM, MODEL
from cumulet.monitor.usage import MIB, NODE_METRICS, NODES, POD_METRICS, SiteLoad, TaskUsage, sum_load, sum_usage
from cumulet.packing import TASK_LABEL

if TYPE_CHECKING:
    from cumulet.central import Pulse, TaskPulse
    from cumulet.monitor.window import Window
    from cumulet.spool import Waiting
    from cumulet.uplink import NodeStatus, SiteStatus

PODS = "/api/v1/pods"
DEPLOYMENTS = "/apis/apps/v1/deployments"
OF_TASKS = {"query": {"labelSelector": TASK_LABEL}}
SERVER_ROLES = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/etcd")
STUCK = frozenset({"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError"})
DIGITS = 12


@dataclass(frozen=True, slots=True)
class Sight:
    """Objects as the API server has them."""

    nodes: Sequence[Json]
    node_metrics: Sequence[Json]
    pods: Sequence[Json]
    pod_metrics: Sequence[Json]
    deployments: Sequence[Json]

    @property
    def load(self) -> SiteLoad | None:
        """How busy the site is; None if no node has metrics."""
        return sum_load(self.nodes, self.node_metrics)

    @property
    def usage(self) -> list[TaskUsage]:
        """What the containers of tasks use."""
        return sum_usage(self.pod_metrics)


@dataclass(frozen=True, slots=True)
class Beside:
    """What is known of a site beside its cluster: the next quiet stretch, results that wait, where it is."""

    window: Window | None = None
    spool: Waiting | None = None
    position: tuple[float, float] | None = None


async def read_sight(api: Api) -> Sight:
    """Look. Raises TargetError if the cluster does not answer."""
    return Sight(
        (await api.call("GET", NODES))["items"],
        (await api.call("GET", NODE_METRICS)).get("items", []),
        (await api.call("GET", PODS, **OF_TASKS)).get("items", []),
        (await api.call("GET", POD_METRICS, **OF_TASKS)).get("items", []),
        (await api.call("GET", DEPLOYMENTS, **OF_TASKS)).get("items", []),
    )


def make_pulse(sight: Sight, beside: Beside, now: float) -> Pulse:
    """What the hub is told. The links are added by who sends it: they change faster."""
    from cumulet.central import Pulse  # noqa: PLC0415 - slow to import

    load, window, spool = sight.load, beside.window, beside.spool
    return Pulse(
        at=int(now),
        load=(round(load.cpu), round(load.gpu), round(load.memory)) if load is not None else (0, 0, 0),
        nodes=(sum(is_ready(node) for node in sight.nodes), len(sight.nodes)),
        window=(window.start, window.seconds) if window is not None else (0, 0),
        windows=int(window is not None),
        spool=(spool.waiting, -(-spool.waiting_bytes // MIB)) if spool is not None else (0, 0),
        tasks=make_tasks(sight),
    )


def make_tasks(sight: Sight) -> tuple[TaskPulse, ...]:
    """Every task: replicas by its Deployment or its pods, what was measured, its model."""
    from cumulet.central import TaskPulse  # noqa: PLC0415 - slow to import

    deployments = {find_task(each): each for each in sight.deployments}
    usage = {f"{each.namespace}/{each.task}": each for each in sight.usage}
    living: dict[str, list[Json]] = {}
    for pod in sight.pods:
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            living.setdefault(find_task(pod), []).append(pod)
    tasks = []
    for name in sorted({*deployments, *living}):
        deployment, pods, used = deployments.get(name), living.get(name, []), usage.get(name)
        models = [text for text in map(find_model, [deployment] if deployment else pods) if text]
        tasks.append(
            TaskPulse(
                name=name,
                wanted=deployment["spec"].get("replicas", 1) if deployment else len(pods),
                ready=sum(is_ready(pod) for pod in pods),
                running=used.containers if used else 0,
                cpu=round(used.cpu_mean * used.containers) if used else 0,
                memory=used.memory_all // MIB if used else 0,
                models={shorten(models[0]): 1} if models else {},
                changing=int(FROM in read_notes(deployment)) if deployment else 0,
            )
        )
    return tuple(tasks)


def make_status(site: str, sight: Sight, beside: Beside, now: float) -> SiteStatus:
    """What a Beidou message says. The links, and the number of the message, are added by who sends it."""
    from cumulet.uplink import SiteStatus  # noqa: PLC0415 - reads documents, slow to import

    load, spool = sight.load, beside.spool
    servers = [node for node in sight.nodes if any(role in read_labels(node) for role in SERVER_ROLES)]
    states = [judge(pod) for pod in sight.pods]
    found = SiteStatus(
        site=site,
        sequence=0,
        time=int(now),
        position=beside.position,
        nodes=len(sight.nodes),
        ready=sum(is_ready(node) for node in sight.nodes),
        servers=len(servers),
        servers_ready=sum(is_ready(node) for node in servers),
        cpu=round(load.cpu) if load is not None else 0,
        gpu=round(load.gpu) if load is not None else 0,
        memory=round(load.memory) if load is not None else 0,
        running=states.count("running"),
        waiting=states.count("waiting"),
        failed=states.count("failed"),
        spool_mib=spool.waiting_bytes / MIB if spool is not None else 0.0,
        spool_entries=spool.waiting if spool is not None else 0,
        age=max(0.0, now - spool.oldest) / 60 if spool is not None and spool.oldest is not None else 0.0,
        model=make_model_mark(sight),
        each_node=tuple(make_node(node, sight) for node in sight.nodes),
    )
    return _with_alarms(found)


def _with_alarms(status: SiteStatus) -> SiteStatus:
    lost = status.servers - status.servers_ready
    alarms = {
        "control-plane": lost > 0,
        "no-quorum": status.servers > 0 and 2 * status.servers_ready <= status.servers,
        "node-lost": status.ready < status.nodes,
        "task-failed": status.failed > 0,
    }
    return replace(status, alarms=tuple(name for name, holds in alarms.items() if holds))


def make_node(node: Json, sight: Sight) -> NodeStatus:
    """One node of a long status."""
    from cumulet.uplink import NodeStatus  # noqa: PLC0415 - reads documents, slow to import

    name = node["metadata"]["name"]
    load = sum_load([node], [each for each in sight.node_metrics if each["metadata"]["name"] == name])
    if load is None:
        return NodeStatus(name, is_ready(node))
    return NodeStatus(name, is_ready(node), round(load.cpu), round(load.gpu), round(load.memory))


def make_model_mark(sight: Sight) -> str:
    """Eight hexadecimal digits: the digest of the model if there is one, else a digest over all of them."""
    models = sorted({text for each in sight.deployments if (text := find_model(each))})
    if not models:
        return "00000000"
    digest = models[0].rpartition("@sha256:")[2]
    if len(models) == 1 and len(digest) >= 8 and all(sign in "0123456789abcdef" for sign in digest[:8]):
        return digest[:8]
    return hashlib.sha256("\n".join(models).encode()).hexdigest()[:8]


def find_task(item: Json) -> str:
    """`namespace/task` of an object of a task."""
    return f"{item['metadata']['namespace']}/{read_labels(item).get(TASK_LABEL, '')}"


def find_model(item: Json) -> str:
    """The model of a task's pod or Deployment, or an empty text."""
    template = item["spec"].get("template") or item
    return read_notes(template).get(MODEL, "")


def shorten(reference: str) -> str:
    """`cumulet.dev/models/yolo@sha256:4f53...` as `yolo@4f53cda18c2b`: as much as tells versions apart."""
    name, at, digest = reference.rpartition("/")[2].partition("@")
    return f"{name}@{digest.removeprefix('sha256:')[:DIGITS]}" if at else name


def judge(pod: Json) -> str:
    """running, waiting, failed or done."""
    status = pod.get("status", {})
    if status.get("phase") == "Succeeded":
        return "done"
    reasons = {
        (each.get("state", {}).get("waiting") or {}).get("reason") for each in status.get("containerStatuses") or ()
    }
    if status.get("phase") == "Failed" or reasons & STUCK:
        return "failed"
    return "running" if is_ready(pod) else "waiting"


def is_ready(item: Json) -> bool:
    """Whether a node or a pod is ready."""
    conditions = item.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def read_labels(item: Json) -> Mapping[str, str]:
    """The labels of an object."""
    return item["metadata"].get("labels") or {}


def read_notes(item: Json) -> Mapping[str, str]:
    """The annotations of an object."""
    return (item.get("metadata") or {}).get("annotations") or {}
