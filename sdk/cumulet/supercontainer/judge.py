"""What the objects of a super container say together: where its members are, what is missing. All pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cumulet.core.api import Json
from cumulet.supercontainer.objects import NOTES


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """One index. `phase` is Kubernetes' word; `attempt` counts replacements; `node` is empty while it has none."""

    index: int
    phase: str
    node: str
    attempt: int
    pod: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class SuperStatus:
    """`state`: `suspended`, `waiting`, then what the merging member says, and at last `complete` or `failed`."""

    name: str
    state: str
    members: tuple[MemberStatus, ...]
    message: str = ""
    missing: tuple[int, ...] = ()
    result: Mapping[str, Any] | None = None


def make_members(pods: Sequence[Json]) -> tuple[MemberStatus, ...]:
    """The newest pod of each index."""
    newest: dict[int, MemberStatus] = {}
    for pod in sorted(pods, key=_age):
        notes = pod["metadata"].get("annotations", {})
        index = int(notes.get(f"{NOTES}job-completion-index", "-1"))
        if index < 0 or ("deletionTimestamp" in pod["metadata"] and index in newest):
            continue
        phase = (
            "Terminating" if "deletionTimestamp" in pod["metadata"] else pod.get("status", {}).get("phase", "Pending")
        )
        attempt = int(notes.get(f"{NOTES}job-index-failure-count") or 0)
        node = pod["spec"].get("nodeName", "")
        newest[index] = MemberStatus(index, phase, node, attempt, pod["metadata"]["name"], read_message(pod))
    return tuple(newest[index] for index in sorted(newest))


def make_status(job: Json, pods: Sequence[Json], said: Mapping[str, Any] | None) -> SuperStatus:
    """All of it. `said` is what the merging member answers; None if it does not."""
    name, members = job["metadata"]["name"], make_members(pods)
    conditions = {
        each["type"]: each for each in job.get("status", {}).get("conditions", []) if each["status"] == "True"
    }
    if "Failed" in conditions:
        return SuperStatus(name, "failed", members, describe_failure(conditions["Failed"], members))
    if "Complete" in conditions:
        return SuperStatus(name, "complete", members)
    if job["spec"].get("suspend"):
        return SuperStatus(name, "suspended", members)
    if said is None:
        return SuperStatus(name, "waiting", members, describe_pending(members))
    missing = tuple(int(each) for each in said.get("missing", []))
    text = name_nodes(str(said.get("message", "")), missing, members)
    return SuperStatus(name, str(said["state"]), members, text, missing, said.get("result"))


def name_nodes(message: str, missing: Sequence[int], members: Sequence[MemberStatus]) -> str:
    """A message about members that have not contributed, with where they are."""
    if not message or not missing:
        return message
    by_index = {each.index: each for each in members}
    places = []
    for index in missing:
        found = by_index.get(index)
        where = f"on {found.node}, {found.phase}" if found is not None and found.node else "on no node"
        places.append(f"member {index} is {where}")
    return f"{message}: {'; '.join(places)}"


def describe_pending(members: Sequence[MemberStatus]) -> str:
    """Which members do not run, and why."""
    waiting = [each for each in members if each.phase not in ("Running", "Succeeded")]
    return "; ".join(f"member {each.index}: {each.message or each.phase}" for each in waiting)


def describe_failure(condition: Json, members: Sequence[MemberStatus]) -> str:
    """Why a job has failed: the last words of the members that failed, else Kubernetes' own."""
    words = [f"member {each.index}: {each.message}" for each in members if each.phase == "Failed" and each.message]
    return "; ".join(words) or str(condition.get("message") or condition.get("reason") or "failed")


def find_final(pods: Sequence[Json]) -> str:
    """What the merging member has said last, if trying again would be of no use; else empty."""
    for pod in pods:
        for each in pod.get("status", {}).get("containerStatuses", []):
            ended = each.get("state", {}).get("terminated") or {}
            try:
                found = json.loads(ended.get("message", ""))
            except ValueError:
                continue
            if isinstance(found, dict) and found.get("final"):
                return str(found.get("message", ""))
    return ""


def read_message(pod: Json) -> str:
    """Why a pod is not what it should be: how its container ended, or what it waits for."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        state = each.get("state", {})
        ended = state.get("terminated")
        if ended is not None and ended.get("exitCode", 0) != 0:
            lines = str(ended.get("message") or ended.get("reason") or f"exit code {ended['exitCode']}").strip()
            return lines.splitlines()[-1]
        if state.get("waiting", {}).get("message"):
            return str(state["waiting"]["message"])
    for condition in status.get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", ""))
    return str(status.get("message", ""))


def _age(pod: Json) -> tuple[str, bool]:
    return str(pod["metadata"].get("creationTimestamp", "")), "deletionTimestamp" not in pod["metadata"]
