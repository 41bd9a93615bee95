"""A task as Kubernetes objects: its containers, where they may be, how many of them there are. All pure."""

from __future__ import annotations

from typing import Any, Literal

from cumulet.core.api import Json
from cumulet.core.errors import UsageError
from cumulet.core.quantities import parse_seconds, parse_size
from cumulet.packing import TASK_LABEL, Decision, Kind, make_labels, make_placement, make_resources
from cumulet.tasks.profile import TaskProfile

MEMORY_LIMIT = 1.25
"""A container that takes so much more than it asked for is ended before its neighbours are."""
MODELS = "cumulet.dev/models/"
STORE = "/var/lib/cumulet/packages"
"""Where packages of files are put; a model in the store is one."""
DIGEST_NOTE = "cumulet.dev/model"


def make_workload(profile: TaskProfile, decision: Decision, *, namespace: str, model: Json | None = None) -> Json:
    """A Deployment, or a Job for what runs once. `model` is the volume that its model is in; None: an image volume."""
    template = make_template(profile, decision, model)
    meta = {"name": profile.task, "namespace": namespace, "labels": make_labels(profile.task, decision.kind)}
    if profile.runs == "once":
        template["spec"]["restartPolicy"] = "Never"
        job: Json = {"backoffLimit": 3, "template": template}
        if profile.deadline is not None:
            job["activeDeadlineSeconds"] = parse_seconds(profile.deadline)
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job}
    spec: Json = {
        "selector": {"matchLabels": {TASK_LABEL: profile.task}},
        # A node that a task has to itself has no room for the new one beside the old one.
        "strategy": {"rollingUpdate": {"maxSurge": _surge(decision.kind), "maxUnavailable": 1 - _surge(decision.kind)}},
        "template": template,
    }
    if not scales(profile):
        spec["replicas"] = profile.replicas.least
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def scales(profile: TaskProfile) -> bool:
    """Whether the number of its containers follows the load."""
    return profile.replicas.limit > profile.replicas.least


def make_autoscaler(profile: TaskProfile, *, namespace: str) -> Json | None:
    """The HorizontalPodAutoscaler of a task; None for one whose number is fixed."""
    if not scales(profile):
        return None
    replicas = profile.replicas
    target = {"type": "Utilization", "averageUtilization": replicas.target}
    spec = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": profile.task},
        "minReplicas": replicas.least,
        "maxReplicas": replicas.limit,
        "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        "behavior": {
            "scaleUp": {"stabilizationWindowSeconds": 0},
            "scaleDown": {"stabilizationWindowSeconds": min(3600, parse_seconds(replicas.calm))},
        },
    }
    meta = {"name": profile.task, "namespace": namespace, "labels": {TASK_LABEL: profile.task}}
    return {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": spec}


def make_template(profile: TaskProfile, decision: Decision, model: Json | None) -> Json:
    """The pod template: one container, its folders, its model, its place."""
    volumes, mounts = make_volumes(profile, model)
    memory = int(max(decision.need.amounts.memory, parse_size(profile.memory)) * MEMORY_LIMIT)
    container: Json = {
        "name": "task",
        "image": profile.image,
        "imagePullPolicy": "IfNotPresent",
        "resources": make_resources(decision.asks, memory),
    }
    if profile.command:
        container["command"] = list(profile.command)
    if profile.environment:
        container["env"] = [{"name": name, "value": text} for name, text in profile.environment.items()]
    if mounts:
        container["volumeMounts"] = mounts
    spec: dict[str, Any] = {
        **make_placement(decision.kind),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
    }
    if volumes:
        spec["volumes"] = volumes
    meta: Json = {"labels": make_labels(profile.task, decision.kind)}
    if profile.model is not None:
        meta["annotations"] = {DIGEST_NOTE: profile.model}
    return {"metadata": meta, "spec": spec}


def make_lone_pod(
    profile: TaskProfile, container: Json, volumes: list[Json], node: str, meta: Json, *, grace: int
) -> Json:
    """One container of the task's image on a node that is chosen already, once: to be measured, or to check something.

    `container` and `meta` are completed; `grace` is in seconds.
    """
    made = {"image": profile.image, "imagePullPolicy": "IfNotPresent", **container}
    if profile.environment:
        made["env"] = [{"name": name, "value": text} for name, text in profile.environment.items()]
    spec: Json = {
        "nodeName": node,
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace,
        "containers": [made],
        "volumes": volumes,
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


def _surge(kind: Kind) -> int:
    return 1 if kind == "shares" else 0


def make_model_source(mount: Literal["image", "store"], reference: str) -> Json:
    """The source of a model's volume, for `cumulet.dev/models/NAME@sha256:...`.

    Never pulled: it was brought to the node and checked before. Raises UsageError for one that cannot be in the store.
    """
    if mount == "image":
        return {"image": {"reference": reference, "pullPolicy": "Never"}}
    name, _, digest = reference.removeprefix(MODELS).partition("@sha256:")
    if "/" in name or len(digest) != 64:
        raise UsageError(f"{reference!r} is no model in the store", hint=f"write it like {MODELS}yolo@sha256:...")
    return {"hostPath": {"path": f"{STORE}/{name}/{digest}", "type": "Directory"}}


def make_volumes(profile: TaskProfile, model: Json | None) -> tuple[list[Json], list[Json]]:
    """The volumes of a task's pod, and where its container finds them."""
    volumes: list[Json] = []
    mounts: list[Json] = []
    folders = (("input", profile.data.input, "/data/in", True), ("output", profile.data.output, "/data/out", False))
    for name, path, target, read_only in folders:
        if path is not None:
            volumes.append({"name": name, "hostPath": {"path": path, "type": "DirectoryOrCreate"}})
            mounts.append({"name": name, "mountPath": target, "readOnly": read_only})
    if profile.model is not None:
        source = model or make_model_source(profile.mount, profile.model)
        volumes.append({"name": "model", **source})
        name = profile.model.partition("@")[0].rpartition("/")[2]
        mounts.append({"name": "model", "mountPath": f"/models/{name}", "readOnly": True})
    return volumes, mounts
