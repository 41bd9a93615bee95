"""How a task of the centre is at this site, and the objects that make it run. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cumulet.core.api import Json
from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_text
from cumulet.dispatch.facts import API_VERSION, KIND, NAMESPACE, PROFILE_NOTE, Seen
from cumulet.packing import Decision
from cumulet.tasks import TaskProfile, make_autoscaler, make_workload, parse_profile, write_profile

POWER_CUTS = 20
"""So often a job may be begun again: a container that was lost with its node counts like one that has failed."""
MOST_MESSAGE, MOST_PLACES = 240, 64


def read_profile(seen: Seen, out: str) -> TaskProfile:
    """The profile of a task; its results go to a folder of its own below `out` if it names none. Raises UsageError."""
    document = dict(seen.task["spec"].get("profile") or {})
    profile = parse_profile(json.dumps(document, ensure_ascii=False), f"task {seen.name}")
    if profile.task != seen.name:
        raise UsageError(f"task {seen.name}: its profile is that of {profile.task}")
    if profile.data.output is None:
        data = profile.data.model_copy(update={"output": f"{out}/{profile.task}"})
        profile = profile.model_copy(update={"data": data})
    return profile


def is_current(seen: Seen, profile: TaskProfile) -> bool:
    """Whether what runs is what the profile says now."""
    workload = seen.workload
    notes = (workload or {}).get("metadata", {}).get("annotations") or {}
    return workload is not None and notes.get(PROFILE_NOTE) == make_digest(profile)


def make_digest(profile: TaskProfile) -> str:
    """What a workload remembers of its profile."""
    return sha256_text(write_profile(profile))[:32]


def make_bodies(seen: Seen, profile: TaskProfile, decision: Decision) -> list[Json]:
    """The task's objects. They go when the task goes."""
    workload = make_workload(profile, decision, namespace=NAMESPACE)
    if workload["kind"] == "Job":
        workload["spec"]["backoffLimit"] = POWER_CUTS
    scaler = make_autoscaler(profile, namespace=NAMESPACE)
    owner = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": seen.name,
        "uid": seen.uid,
    }
    bodies = [workload, *([scaler] if scaler is not None else [])]
    for body in bodies:
        body["metadata"]["ownerReferences"] = [owner]
        body["metadata"]["annotations"] = {PROFILE_NOTE: make_digest(profile)}
    return bodies


def find_obsolete(seen: Seen, bodies: Sequence[Json]) -> list[tuple[str, Json]]:
    """What must go before the new objects are made: a job cannot be changed, and another kind is not wanted."""
    kinds = {body["kind"] for body in bodies}
    return [(kind, body) for kind, body in seen.workloads.items() if kind == "Job" or kind not in kinds]


def find_homeless(seen: Seen) -> str:
    """Why a container that was started has no node yet; empty if all have one."""
    for pod in seen.pods:
        if not pod["spec"].get("nodeName") and pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            return read_reason(pod) or "the scheduler has not looked at it"
    return ""


def make_status(seen: Seen) -> Json:
    """How a task is whose workload is there."""
    if "Deployment" in seen.workloads:
        return complete_status(seen, _judge_deployment(seen, seen.workloads["Deployment"]))
    return complete_status(seen, _judge_job(seen, seen.workloads["Job"]))


def complete_status(seen: Seen, status: Mapping[str, Any]) -> Json:
    """A status with everything that is always in it."""
    made: Json = {"message": "", "ready": 0, "wanted": 0, **status}
    made["message"] = made["message"][:MOST_MESSAGE]
    made["places"] = json.dumps(make_places(seen.pods), separators=(",", ":"))
    made["observedGeneration"] = seen.task["metadata"].get("generation", 1)
    if seen.status.get("delivered"):
        made["delivered"] = seen.status["delivered"]
    return made


def make_places(pods: Sequence[Json]) -> dict[str, str]:
    """Node -> containers that are ready, or done, and all of them: `1/2`. Of very many nodes the first."""
    counts: dict[str, list[int]] = {}
    for pod in pods:
        node = pod["spec"].get("nodeName", "")
        phase = pod.get("status", {}).get("phase")
        if node and phase != "Failed":
            row = counts.setdefault(node, [0, 0])
            row[0] += phase == "Succeeded" or is_ready(pod)
            row[1] += 1
    return {node: f"{ready}/{total}" for node, (ready, total) in sorted(counts.items())[:MOST_PLACES]}


def is_ready(pod: Json) -> bool:
    """Whether a pod says that it is ready."""
    conditions = pod.get("status", {}).get("conditions") or []
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def read_reason(pod: Json) -> str:
    """Why a pod is not ready, in the words of kubelet or scheduler."""
    status = pod.get("status", {})
    for state in status.get("containerStatuses") or ():
        waiting = (state.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") and waiting["reason"] != "ContainerCreating":
            return f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", ""))
    return ""


def read_result(seen: Seen) -> tuple[str, bytes] | None:
    """What a job has written at its end, with the job's identity; None if it has not ended well or wrote nothing."""
    job = seen.workloads.get("Job")
    if job is None or not _holds(job, "Complete"):
        return None
    for pod in seen.pods:
        for state in pod.get("status", {}).get("containerStatuses") or ():
            ended = (state.get("state") or {}).get("terminated") or {}
            if pod["status"].get("phase") == "Succeeded" and ended.get("message"):
                return str(job["metadata"]["uid"]), str(ended["message"]).encode()
    return None


def _judge_job(seen: Seen, job: Json) -> Json:
    if _holds(job, "Complete"):
        return {"phase": "Done", "ready": 1, "wanted": 1}
    if _holds(job, "Failed"):
        conditions = job["status"]["conditions"]
        message = next(str(each.get("message", "")) for each in conditions if each["type"] == "Failed")
        return {"phase": "Failed", "wanted": 1, "message": message}
    alive = [pod for pod in seen.pods if pod.get("status", {}).get("phase") not in ("Failed", "Succeeded")]
    running = any(pod["status"].get("phase") == "Running" for pod in alive)
    reason = next((text for pod in alive if (text := read_reason(pod))), "")
    return {"phase": "Running" if running else "Starting", "ready": int(running), "wanted": 1, "message": reason}


def _judge_deployment(seen: Seen, found: Json) -> Json:
    status = found.get("status") or {}
    wanted, ready = int(found["spec"].get("replicas", 1)), int(status.get("readyReplicas", 0))
    current = int(status.get("observedGeneration", 0)) >= int(found["metadata"].get("generation", 1))
    fresh = int(status.get("updatedReplicas", 0)) >= wanted
    reason = next((text for pod in seen.pods if not is_ready(pod) and (text := read_reason(pod))), "")
    runs = current and fresh and ready >= wanted > 0
    return {"phase": "Running" if runs else "Starting", "ready": ready, "wanted": wanted, "message": reason}


def _holds(found: Json, kind: str) -> bool:
    conditions = (found.get("status") or {}).get("conditions") or ()
    return any(each["type"] == kind and each["status"] == "True" for each in conditions)
