"""Is a model good on a node: the task's own check, run there beside it; accuracy and latency against the profile."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass

from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.core.quantities import parse_seconds
from cumulet.tasks import TaskProfile, make_lone_pod, make_volumes

LABEL = "cumulet.dev/check"
PAUSE = 0.5


@dataclass(frozen=True, slots=True)
class Health:
    """What a check has found. `latency` in milliseconds; None where the check did not say it."""

    node: str
    good: bool
    text: str
    accuracy: float | None = None
    latency: float | None = None


async def check_health(
    api: Api, profile: TaskProfile, volume: Json, node: str, namespace: str, *, pause: float = PAUSE
) -> Health:
    """Run the profile's check on a node, with a model's volume. A check that fails is an answer, not an error."""
    assert profile.check is not None  # noqa: S101 - the caller has looked
    name = f"{profile.task}-check-{secrets.token_hex(3)}"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.call("POST", pods, make_check_pod(profile, volume, name, node))
    deadline = Deadline.after(parse_seconds(profile.check.limit))
    try:
        while True:
            pod = await api.call("GET", f"{pods}/{name}")
            ended = read_end(pod)
            if ended is not None:
                return judge(profile, node, *ended)
            if deadline.passed:
                return Health(node, False, f"check: not done after {deadline.seconds:.0f} s: {describe_problem(pod)}")
            await asyncio.sleep(pause)
    finally:
        await _remove(api, f"{pods}/{name}")


def make_check_pod(profile: TaskProfile, volume: Json, name: str, node: str) -> Json:
    """The task's image with the check's command; what it finds it writes as JSON into /dev/termination-log."""
    assert profile.check is not None  # noqa: S101 - the caller has looked
    volumes, mounts = make_volumes(profile, {key: value for key, value in volume.items() if key != "name"})
    container: Json = {
        "name": "check",
        "command": list(profile.check.command),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    meta = {"name": name, "labels": {LABEL: profile.task}}
    return make_lone_pod(profile, container, volumes, node, meta, grace=1)


def judge(profile: TaskProfile, node: str, code: int, message: str) -> Health:
    """What a check's end means: how it ended, then accuracy, then latency."""
    check = profile.check
    assert check is not None  # noqa: S101 - the caller has looked
    if code != 0:
        last = message.strip().splitlines()[-1:] or [f"exit code {code}"]
        return Health(node, False, f"check failed: {last[0]}")
    try:
        found = json.loads(message)
        accuracy, latency = (float(found[name]) if name in found else None for name in ("accuracy", "latency"))
    except (ValueError, TypeError):
        return Health(node, False, f"check: says {message.strip()[:60]!r} instead of accuracy and latency as JSON")
    problems = []
    if check.accuracy is not None and (accuracy is None or accuracy < check.accuracy):
        problems.append(f"accuracy {_show(accuracy)}, at least {check.accuracy:g} is wanted")
    if check.latency is not None and (latency is None or latency > check.latency):
        problems.append(f"latency {_show(latency)} ms, at most {check.latency:g} ms is wanted")
    text = "; ".join(problems) or f"accuracy {_show(accuracy)}, latency {_show(latency)} ms"
    return Health(node, not problems, text, accuracy, latency)


def read_end(pod: Json) -> tuple[int, str] | None:
    """Exit code and message of a pod's container; None while it has not ended."""
    for each in pod.get("status", {}).get("containerStatuses", []):
        ended = each.get("state", {}).get("terminated")
        if ended is not None:
            return int(ended.get("exitCode", 1)), str(ended.get("message", ended.get("reason", "")))
    return None


def describe_problem(pod: Json) -> str:
    """Why a pod is not ready, as far as it says."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        state = each.get("state", {})
        waiting = state.get("waiting") or state.get("terminated")
        if waiting:
            return ": ".join(text for text in (waiting.get("reason", ""), waiting.get("message", "")) if text)
    for condition in status.get("conditions", []):
        if condition["status"] != "True" and condition.get("message"):
            return str(condition["message"])
    return str(status.get("phase", "unknown"))


def _show(value: float | None) -> str:
    return "not told" if value is None else f"{value:.4g}"


async def _remove(api: Api, path: str) -> None:
    try:
        await api.call("DELETE", path)
    except TargetError as error:
        if status_of(error) != 404:
            raise
