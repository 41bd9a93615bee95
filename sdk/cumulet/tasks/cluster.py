"""A live cluster as an edge profile: nodes, what is reserved on them, how busy they are. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Literal

from cumulet.core.api import Api, Json, status_of
from cumulet.core.errors import TargetError
from cumulet.core.notes import GPU_RESOURCE, NodeNote, read_list, read_number
from cumulet.core.quantities import parse_quantity, write_size
from cumulet.packing import PLACE_LABEL, TASK_LABEL, Amounts
from cumulet.tasks.edge import EdgeNode, EdgeProfile, Gpu, Link, Load, Used, make_node_size

NODES, PODS = "/api/v1/nodes", "/api/v1/pods"
METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
ROLES: Mapping[str, Literal["master", "control"]] = {
    "node-role.kubernetes.io/control-plane": "master",
    "node-role.kubernetes.io/etcd": "control",
}
STATE_TAINTS = "node.kubernetes.io/"
"""Taints that come and go with the state of a node: not-ready, unreachable, unschedulable, disk-pressure."""
SHOWN = 5
"""How many nodes a message names."""
OVER = ("Succeeded", "Failed")


async def read_edge(api: Api, name: str, *, without: Collection[str] = (), well: bool = False) -> EdgeProfile:
    """The edge as it is now, or as it would be `without` some tasks, and with all of its nodes `well`.

    Without metrics in the cluster its load is shown as 0. Raises TargetError.
    """
    nodes = await api.call("GET", NODES)
    pods = [
        pod
        for pod in (await api.call("GET", PODS))["items"]
        if pod["metadata"].get("labels", {}).get(TASK_LABEL) not in without
    ]
    try:
        metrics = (await api.call("GET", METRICS)).get("items", [])
    except TargetError as error:
        if status_of(error) not in (404, 503):
            raise
        metrics = []
    free = {each["metadata"]["name"]: await _read_free(api, each) for each in nodes["items"] if takes_tasks(each)}
    found = make_edge(name, nodes["items"], pods, metrics, free, well=well)
    if not found.nodes:
        words = [f"{each['metadata']['name']} ({find_absence(each)})" for each in nodes["items"]]
        reason = ", ".join(words[:SHOWN]) or "there is none"
        more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
        raise TargetError(f"{name}: no node takes tasks: {reason}{more}", hint="cumulet site status")
    return found


async def _read_free(api: Api, node: Json) -> int:
    """Bytes that are free where a node's images and volumes lie; 0 if its kubelet does not say."""
    try:
        found = await api.call("GET", f"{NODES}/{node['metadata']['name']}/proxy/stats/summary")
    except TargetError:
        return 0
    return int(found.get("node", {}).get("fs", {}).get("availableBytes", 0))


def make_edge(
    name: str,
    nodes: Sequence[Json],
    pods: Sequence[Json],
    metrics: Sequence[Json],
    free: Mapping[str, int] | None = None,
    *,
    well: bool = False,
) -> EdgeProfile:
    """The edge from the API server's lists of nodes, pods and nodes' metrics.

    `free`: bytes of each node's disk. `well`: with the nodes that are only away for a while.
    """
    usage = {each["metadata"]["name"]: each["usage"] for each in metrics}
    by_node: dict[str, list[Json]] = {}
    for pod in pods:
        if pod.get("status", {}).get("phase") not in OVER:
            by_node.setdefault(pod["spec"].get("nodeName", ""), []).append(pod)
    made = [
        _make_node(
            node,
            by_node.get(node["metadata"]["name"], []),
            usage.get(node["metadata"]["name"], {}),
            (free or {}).get(node["metadata"]["name"], 0),
        )
        for node in nodes
        if takes_tasks(node, well=well)
    ]
    return EdgeProfile(version=1, edge=name, nodes=tuple(sorted(made, key=lambda node: node.name)))


def takes_tasks(node: Json, *, well: bool = False) -> bool:
    """Whether the scheduler gives this node containers that tolerate nothing, or will once the node is `well`."""
    return not find_absence(node) or (well and all(each.startswith(STATE_TAINTS) for each in _list_taints(node)))


def find_absence(node: Json) -> str:
    """Why a node takes no tasks, or nothing."""
    spec, status = node.get("spec", {}), node.get("status", {})
    if not any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions", [])):
        return "not Ready"
    if spec.get("unschedulable"):
        return "cordoned"
    taints = _list_taints(node)
    return f"kept free: {taints[0].removeprefix(STATE_TAINTS)}" if taints else ""


def _list_taints(node: Json) -> list[str]:
    """The keys of the taints that keep tasks away."""
    taints = node.get("spec", {}).get("taints", [])
    return [taint["key"] for taint in taints if taint["effect"] in ("NoSchedule", "NoExecute")]


def sum_requests(pods: Iterable[Json]) -> Amounts:
    """What pods ask for together."""
    total = Amounts()
    for pod in pods:
        spec = pod["spec"]
        wanted = Amounts()
        for container in spec.get("containers", []):
            wanted += _read_amounts(container.get("resources", {}).get("requests", {}))
        for container in spec.get("initContainers", []):
            first = _read_amounts(container.get("resources", {}).get("requests", {}))
            # They run before the others, so the bigger of both counts.
            wanted = Amounts(max(wanted.cpu, first.cpu), max(wanted.gpu, first.gpu), max(wanted.memory, first.memory))
        total += wanted
    return total


def _make_node(node: Json, pods: Sequence[Json], usage: Mapping[str, str], free: int) -> EdgeNode:
    meta, allocatable = node["metadata"], node["status"]["allocatable"]
    size = _read_amounts(allocatable)
    used = sum_requests(pods)
    notes = meta.get("annotations", {})
    speed = read_number(notes, NodeNote.GPU_SPEED)
    gpu = Gpu(renderer=notes.get(NodeNote.RENDERER, ""), units=size.gpu, speed=speed) if size.gpu else None
    labels = [pod["metadata"].get("labels", {}) for pod in pods]
    tasks = [each for each in labels if TASK_LABEL in each]
    whole = [each[TASK_LABEL] for each in tasks if each.get(PLACE_LABEL) == "whole"]
    shared = [each[TASK_LABEL] for each in tasks if each.get(PLACE_LABEL) != "whole"]
    busy = _read_amounts(usage)
    return EdgeNode(
        name=meta["name"],
        role=next((role for label, role in ROLES.items() if label in meta.get("labels", {})), "worker"),
        cpus=size.cpu / 1000,
        memory=make_node_size(size.memory),
        disk=make_node_size(free),
        gpu=gpu,
        runtimes=read_list(notes, NodeNote.RUNTIMES),
        link=Link(mbit=read_number(notes, NodeNote.MBIT), milliseconds=read_number(notes, NodeNote.MILLISECONDS)),
        load=Load(
            cpu=round(100 * busy.cpu / size.cpu, 1) if size.cpu else 0.0,
            gpu=read_number(notes, NodeNote.GPU_BUSY),
            memory=round(100 * busy.memory / size.memory, 1) if size.memory else 0.0,
        ),
        used=Used(cpu=used.cpu / 1000, gpu=used.gpu, memory=write_size(used.memory)),
        tasks=tuple(sorted(shared)),
        whole=whole[0] if whole else "",
    )


def _read_amounts(values: Mapping[str, Any]) -> Amounts:
    # Rounded up: half a thousandth that is asked for is still asked for.
    cpu, memory = parse_quantity(values.get("cpu", "0")), parse_quantity(values.get("memory", "0"))
    return Amounts(-(-cpu * 1000 // 1), int(parse_quantity(values.get(GPU_RESOURCE, "0"))), -(-memory // 1))
