"""A task measured: run alone on one node, watched there, and what was seen written into its profile."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from cumulet.core import watch
from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.core.quantities import write_size
from cumulet.tasks.manifests import make_lone_pod, make_volumes
from cumulet.tasks.profile import Measured, TaskProfile

RunOnNode = Callable[[Sequence[str], str, float], Awaitable[str]]
"""Runs a program on the node, with a text on its input, for at most so many seconds; gives back what it printed."""
WATCH = Path(watch.__file__)
"""Sent to the node as it is, which needs no Cumulet for it."""
EVERY = 0.5
START_SECONDS = 300.0
PAUSE = 0.5
LABEL = "cumulet.dev/measured"


async def measure(
    api: Api, run: RunOnNode, profile: TaskProfile, node: str, seconds: float, *, namespace: str = "default"
) -> Measured:
    """Run one container of a task on a node and watch it for `seconds`, or until it ends. It is removed afterwards.

    Raises TargetError if it does not start or ends with an error before it was watched.
    """
    name = f"{profile.task}-measured-{secrets.token_hex(3)}"
    pods = f"/api/v1/namespaces/{namespace}/pods"
    await api.call("POST", pods, make_pod(profile, name, node))
    try:
        uid = await _wait_until_it_runs(api, f"{pods}/{name}", profile.task)
        argv = ("python3", "-I", "-", uid, f"{seconds:g}", f"{EVERY:g}")
        answer: Json = json.loads(await run(argv, WATCH.read_text(), seconds + 60))
    finally:
        await _remove(api, f"{pods}/{name}")
    if "error" in answer:
        raise TargetError(f"{profile.task} on {node}: {answer['error']}", hint="did it end at once?")
    return make_measured(answer, node)


def make_measured(answer: Json, node: str) -> Measured:
    """The part of the profile, from what the watcher has printed."""
    return Measured(
        cpu=round(answer["cpu"], 2),
        gpu=round(answer["gpu"], 2),
        memory=write_size(max(1, answer["memory"])),
        cpus=answer["cpus"],
        node=node,
        seconds=max(1, math.ceil(answer["seconds"])),
        gpu_seen=answer["gpu_seen"],
    )


def correct(profile: TaskProfile, measured: Measured) -> TaskProfile:
    """The profile with what was measured; what was declared stays there to be compared with."""
    return profile.model_copy(update={"measured": measured})


def make_pod(profile: TaskProfile, name: str, node: str) -> Json:
    """The container as the task will run it, but with no limits: what it needs is to be found out."""
    volumes, mounts = make_volumes(profile, None)
    container: Json = {"name": "task", "volumeMounts": mounts}
    if profile.command:
        container["command"] = list(profile.command)
    meta = {"name": name, "labels": {LABEL: profile.task}}
    return make_lone_pod(profile, container, volumes, node, meta, grace=5)


async def _wait_until_it_runs(api: Api, path: str, task: str) -> str:
    """The pod's uid, once its container runs."""
    deadline = Deadline.after(START_SECONDS)
    while True:
        pod = await api.call("GET", path)
        status = pod.get("status", {})
        states = [each.get("state", {}) for each in status.get("containerStatuses", [])]
        if states and "running" in states[0]:
            return str(pod["metadata"]["uid"])
        ended = states[0].get("terminated") if states else None
        if ended is not None:
            reason = ended.get("message") or f"exit code {ended.get('exitCode')}"
            raise TargetError(f"{task}: ended before it could be watched: {reason}", hint="a longer input for it?")
        waiting = states[0].get("waiting", {}) if states else {}
        if waiting.get("reason") in ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "CreateContainerError"):
            raise TargetError(f"{task}: cannot be started: {waiting['reason']}: {waiting.get('message', '')}")
        if deadline.passed:
            raise TargetError(
                f"{task}: does not run after {deadline.seconds:.0f} s: {waiting.get('reason', 'pending')}"
            )
        await asyncio.sleep(PAUSE)


async def _remove(api: Api, path: str) -> None:
    try:
        await api.call("DELETE", path)
    except TargetError as error:
        if status_of(error) != 404:
            raise
