"""A super container as Kubernetes objects: Indexed Job, headless Service, Secret. All pure."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cumulet.core.api import Json
from cumulet.core.errors import UsageError
from cumulet.core.quantities import parse_seconds, parse_size
from cumulet.packing import TASK_LABEL, Amounts, Decision, make_labels, make_placement, make_resources
from cumulet.supercontainer.inside.setting import ENGINES, KEEPS, NEXT_PORT
from cumulet.tasks import TaskProfile, make_volumes

PORT: Final = 7070
DOOR: Final = 7071
SPOOL: Final = "/run/cumulet/spool"
TRUST: Final = "/run/cumulet/trust"
STORE: Final = "/data/out"
SECONDS: Final = 3600
RETRIES: Final = 5
"""So often an index is begun again, also when its node was lost."""
SLACK_SECONDS: Final = 300
"""Longer than its deadline a job lasts while images are unpacked and the result is fetched."""
MEMORY_LIMIT: Final = 1.25
NOTES: Final = "batch.kubernetes.io/"
JOB_LABEL: Final = f"{NOTES}job-name"


@dataclass(frozen=True, slots=True)
class SuperTask:
    """A task that is spread over several whole nodes. `asks` is what each member reserves."""

    profile: TaskProfile
    size: int
    asks: Amounts
    namespace: str = "default"
    engine: str = "shards"
    keep: str = "taken"
    merging: int = 0

    @property
    def name(self) -> str:
        """The job's name, and that of everything that belongs to it."""
        return self.profile.task

    @property
    def seconds(self) -> int:
        """So long may it take until all results are there."""
        return parse_seconds(self.profile.deadline) if self.profile.deadline is not None else SECONDS


def make_super_task(profile: TaskProfile, decision: Decision, namespace: str = "default", **more: str) -> SuperTask:
    """The super container that the packing rule has decided on. Raises UsageError for one that cannot be."""
    if decision.kind != "super":
        hint = f"cumulet task run {profile.task}.yaml"
        raise UsageError(f"{profile.task} is not for a super container: {decision.reason}", hint=hint)
    made = SuperTask(profile, len(decision.nodes), decision.asks, namespace, **more)  # type: ignore[arg-type]
    for value, known in ((made.engine, ENGINES), (made.keep, KEEPS)):
        if value not in known:
            raise UsageError(f"{value!r} is none of {', '.join(known)}")
    if made.keep == "stored" and profile.data.output is None:
        raise UsageError(f"{profile.task}: there is no folder to store the result in", hint="data: {output: /...}")
    return made


def make_secret(task: SuperTask, trust: Mapping[str, bytes]) -> Json:
    """The certificates of the members, and the token of the door."""
    data = {name: base64.b64encode(content).decode() for name, content in sorted(trust.items())}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": _meta(task), "type": "Opaque", "data": data}


def make_service(task: SuperTask) -> Json:
    """Gives every member a name in the cluster's DNS, also while it is not ready."""
    spec = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": {JOB_LABEL: task.name},
        "ports": [{"name": "members", "port": PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(task), "spec": spec}


def make_merging_service(task: SuperTask) -> Json:
    """An address that always leads to the merging member, whoever that is: without the cluster's DNS.

    The node that is lost may be the one where the DNS runs, and it is minutes until that is back.
    """
    meta = _meta(task)
    spec = {
        "selector": {JOB_LABEL: task.name, f"{NOTES}job-completion-index": str(task.merging)},
        "ports": [{"name": "members", "port": PORT}, {"name": "dask", "port": PORT + NEXT_PORT}],
    }
    metadata = {**meta, "name": f"{task.name}-merging"}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}


def make_job(task: SuperTask, merging: str) -> Json:
    """The job, suspended: it is let go once there are enough whole nodes.

    `merging` is the address of the service that leads to the merging member.
    """
    spec = {
        "suspend": True,
        "completionMode": "Indexed",
        "completions": task.size,
        "parallelism": task.size,
        "backoffLimitPerIndex": RETRIES,
        "maxFailedIndexes": 0,
        # A replacement need not wait until a node that is gone says that its container is.
        "podReplacementPolicy": "TerminatingOrFailed",
        "activeDeadlineSeconds": task.seconds + SLACK_SECONDS,
        "template": _make_template(task, merging),
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _meta(task), "spec": spec}


def make_environment(task: SuperTask, merging: str) -> list[Json]:
    """What every member is told; see `inside.setting`."""
    hosts = [f"{task.name}-{index}.{task.name}" for index in range(task.size)]
    hosts[task.merging] = f"[{merging}]" if ":" in merging else merging
    told = {
        "JOB": task.name,
        "SIZE": str(task.size),
        "PEERS": ",".join(f"{host}:{PORT}" for host in hosts),
        "SPOOL": SPOOL,
        "TRUST": TRUST,
        "MERGING": str(task.merging),
        "SECONDS": str(task.seconds),
        "ENGINE": task.engine,
        "KEEP": task.keep,
        "STORE": STORE,
        "DOOR": str(DOOR),
    }
    read = {
        "INDEX": f"metadata.annotations['{NOTES}job-completion-index']",
        "ATTEMPT": f"metadata.annotations['{NOTES}job-index-failure-count']",
        "NODE": "spec.nodeName",
    }
    fields = [
        {"name": f"CUMULET_{name}", "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in read.items()
    ]
    own = [{"name": name, "value": text} for name, text in task.profile.environment.items()]
    return [*own, *fields, *({"name": f"CUMULET_{name}", "value": text} for name, text in told.items())]


def _make_template(task: SuperTask, merging: str) -> Json:
    volumes, mounts = make_volumes(task.profile, None)
    volumes += [{"name": "spool", "emptyDir": {}}, {"name": "trust", "secret": {"secretName": task.name}}]
    mounts.append({"name": "spool", "mountPath": SPOOL})
    # Each member sees its own key only.
    for file, key in (("ca.crt", "ca.crt"), ("token", "token"), *((f"tls.{k}", f"$(CUMULET_INDEX).{k}") for k in KEYS)):
        mounts.append({"name": "trust", "mountPath": f"{TRUST}/{file}", "subPathExpr": key, "readOnly": True})
    memory = int(max(task.asks.memory, parse_size(task.profile.memory)) * MEMORY_LIMIT)
    container: Json = {
        "name": "task",
        "image": task.profile.image,
        "imagePullPolicy": "IfNotPresent",
        "env": make_environment(task, merging),
        "ports": [{"containerPort": PORT}, {"containerPort": DOOR}],
        "resources": make_resources(task.asks, memory),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    if task.profile.command:
        container["command"] = list(task.profile.command)
    spec: Json = {
        **make_placement("super"),
        "subdomain": task.name,
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 5,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }
    return {"metadata": {"labels": make_labels(task.name, "super")}, "spec": spec}


KEYS: Final = ("crt", "key")


def _meta(task: SuperTask) -> Json:
    return {"name": task.name, "namespace": task.namespace, "labels": {TASK_LABEL: task.name}}
