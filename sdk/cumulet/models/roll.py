"""A task switched to another model: one container after the other, each checked, and back by itself if one is bad.

Kubernetes replaces the containers; it is held after each by a long `minReadySeconds`, and goes on when one more may be
missing. All that is needed to go on, or to go back, is written in the Deployment: whoever runs the same command again
after this program was killed goes on where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field

from cumulet.core.api import Api, Json
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.models.health import Health, check_health, describe_problem
from cumulet.models.prune import BEFORE, FROM, MODEL
from cumulet.models.way import Way
from cumulet.tasks import TaskProfile, make_model_source, read_pods

MERGE = "application/merge-patch+json"
HELD_SECONDS = 86400
"""So long a new container must have been ready before Kubernetes goes on by itself: longer than a switch takes."""
PATIENCE_SECONDS = 600
PAUSE = 0.5
VOLUME = "model"
BEFORE_SOURCE = "cumulet.dev/model-before-source"
FROM_SOURCE = "cumulet.dev/model-from-source"
"""Annotations: where the models come from that a task had before, or has had until a switch that is under way."""
OVER = {FROM: None, FROM_SOURCE: None}
"""What takes the notes of a switch away."""


@dataclass(frozen=True, slots=True)
class Rolled:
    """What became of a switch. `returned`: it went back to `before`, for `reason`."""

    task: str
    before: str
    after: str
    changed: bool
    returned: bool = False
    reason: str = ""
    checks: tuple[Health, ...] = ()


@dataclass(slots=True)
class Switch:
    """A switch under way: what is the same in every step of it."""

    api: Api
    profile: TaskProfile
    model: str
    way: Way
    namespace: str
    tell: Callable[[str], None]
    seconds: float = 300.0
    pause: float = PAUSE
    checks: list[Health] = field(default_factory=list)

    @property
    def path(self) -> str:
        """The task's Deployment."""
        return f"/apis/apps/v1/namespaces/{self.namespace}/deployments/{self.profile.task}"


async def roll_model(switch: Switch) -> Rolled:
    """Switch a task to another model. A bad one is no error: the result says that the task has its old one again.

    Raises TargetError if the task is not there, has no model, or cannot be brought back.
    """
    deployment = await switch.api.call("GET", switch.path)
    now, before, source = read_models(deployment, switch)
    if now == switch.model and not is_held(deployment):
        return Rolled(switch.profile.task, now, now, changed=False)
    await _begin(switch, deployment, before, source)
    try:
        await _replace_all(switch)
    except TargetError as error:
        switch.tell(f"{switch.profile.task}: {error.message}: going back to {short(before)}")
        await _go_back(switch, before, source, {})
        task = switch.profile.task
        return Rolled(task, before, switch.model, True, True, error.message, tuple(switch.checks))
    await _finish(switch, before, source)
    return Rolled(switch.profile.task, before, switch.model, changed=True, checks=tuple(switch.checks))


def read_models(deployment: Json, switch: Switch) -> tuple[str, str, str]:
    """The model that a task's containers are to have, the one to go back to, and where that comes from.

    Raises TargetError if it has none.
    """
    now = read_notes(deployment["spec"]["template"]).get(MODEL, "")
    if not now:
        raise TargetError(f"{switch.profile.task}: has no model to switch", hint="give its profile a model")
    notes = read_notes(deployment)
    if is_held(deployment) and FROM in notes:
        # Somebody was killed in the middle of a switch: his begin is ours.
        return now, notes[FROM], notes[FROM_SOURCE]
    return now, now, read_source(deployment)


def read_notes(item: Json) -> dict[str, str]:
    """The annotations of an object."""
    return dict(item["metadata"].get("annotations") or {})


def is_held(deployment: Json) -> bool:
    """Whether a switch is under way."""
    return bool(deployment["spec"].get("minReadySeconds", 0) == HELD_SECONDS)


def make_template(deployment: Json, model: str, source: Json) -> Json:
    """The part of the pod template that changes: the source of the model's volume, and what says which one it is."""
    volumes = [each for each in list_volumes(deployment) if each["name"] != VOLUME]
    return {"metadata": {"annotations": {MODEL: model}}, "spec": {"volumes": [*volumes, {"name": VOLUME, **source}]}}


def list_volumes(deployment: Json) -> list[Json]:
    """The volumes of the pod template."""
    return list(deployment["spec"]["template"]["spec"].get("volumes", []))


def read_source(deployment: Json) -> str:
    """Where the model comes from, as JSON."""
    found: Json = next((each for each in list_volumes(deployment) if each["name"] == VOLUME), {})
    return json.dumps({key: value for key, value in found.items() if key != "name"}, sort_keys=True)


def make_hold(missing: int) -> Json:
    """The part of the spec that lets Kubernetes replace as many containers as may be missing, and no more."""
    return {
        "minReadySeconds": HELD_SECONDS,
        "progressDeadlineSeconds": 2 * HELD_SECONDS,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": missing}},
    }


def make_release() -> Json:
    """The part of the spec that lets Kubernetes do as usual."""
    return {
        "minReadySeconds": 0,
        "progressDeadlineSeconds": PATIENCE_SECONDS,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}},
    }


async def _begin(switch: Switch, deployment: Json, before: str, source: str) -> None:
    notes = {FROM: before, FROM_SOURCE: source}
    template = make_template(deployment, switch.model, make_model_source(switch.way, switch.model))
    await _patch(switch, {"metadata": {"annotations": notes}, "spec": {**make_hold(1), "template": template}})


async def _replace_all(switch: Switch) -> None:
    """Let one after the other be replaced and look at it. Raises TargetError for the first that is bad."""
    checked: set[str] = set()
    deadline = Deadline.after(switch.seconds)
    while True:
        deployment = await switch.api.call("GET", switch.path)
        pods = await read_pods(switch.api, switch.profile.task, switch.namespace)
        new = [pod for pod in pods if _model_of(pod) == switch.model]
        ready = [pod for pod in new if is_ready(pod)]
        for pod in ready:
            name = pod["metadata"]["name"]
            if name not in checked:
                await _look_at(switch, pod)
                checked.add(name)
                deadline = Deadline.after(switch.seconds)
        wanted = deployment["spec"].get("replicas", 1)
        if len(checked) >= wanted and len(new) == len(pods):
            return
        if len(checked) == len(new) < wanted:
            await _patch(switch, {"spec": make_hold(len(new) + 1)})
        if deadline.passed:
            waiting = next((pod for pod in new if not is_ready(pod)), None)
            reason = describe_problem(waiting) if waiting is not None else "Kubernetes replaces nothing"
            raise TargetError(f"not ready after {switch.seconds:.0f} s with {short(switch.model)}: {reason}")
        await asyncio.sleep(switch.pause)


async def _look_at(switch: Switch, pod: Json) -> None:
    """Check a new container's model on its own node. Raises TargetError if it is not good enough."""
    node = pod["spec"]["nodeName"]
    if switch.profile.check is None:
        switch.tell(f"{node}: ready with {short(switch.model)}; there is nothing to check it by")
        return
    volume = {"name": VOLUME, **make_model_source(switch.way, switch.model)}
    health = await check_health(switch.api, switch.profile, volume, node, switch.namespace, pause=switch.pause)
    switch.checks.append(health)
    switch.tell(f"{node}: {health.text}")
    if not health.good:
        raise TargetError(f"{node}: {health.text}")


async def _go_back(switch: Switch, before: str, source: str, notes: Json) -> None:
    """The old model everywhere. Raises TargetError if it does not come back."""
    deployment = await switch.api.call("GET", switch.path)
    template = make_template(deployment, before, json.loads(source))
    spec = {**make_release(), "template": template}
    await _patch(switch, {"metadata": {"annotations": {**notes, **OVER}}, "spec": spec})
    deadline = Deadline.after(switch.seconds)
    while True:
        deployment = await switch.api.call("GET", switch.path)
        pods = await read_pods(switch.api, switch.profile.task, switch.namespace)
        good = [pod for pod in pods if _model_of(pod) == before and is_ready(pod)]
        if len(good) == len(pods) == deployment["spec"].get("replicas", 1):
            return
        if deadline.passed:
            raise TargetError(
                f"{switch.profile.task}: {len(good)} of {len(pods)} have {short(before)} again after"
                f" {switch.seconds:.0f} s",
                hint=f"kubectl -n {switch.namespace} describe deployment {switch.profile.task}",
            )
        await asyncio.sleep(switch.pause)


async def _finish(switch: Switch, before: str, source: str) -> None:
    """Kubernetes does as usual again; the old model stays known as the one before, so that it is kept."""
    notes = {BEFORE: before, BEFORE_SOURCE: source, **OVER}
    await _patch(switch, {"metadata": {"annotations": notes}, "spec": make_release()})


async def _patch(switch: Switch, change: Json) -> None:
    await switch.api.call("PATCH", switch.path, change, content=MERGE)


def _model_of(pod: Json) -> str:
    return str((pod["metadata"].get("annotations") or {}).get(MODEL, ""))


def is_ready(pod: Json) -> bool:
    """Whether a pod says that it is ready."""
    conditions = pod.get("status", {}).get("conditions", [])
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


def short(model: str) -> str:
    """A model's reference for messages: its name and the first of its digest."""
    name, _, digest = model.partition("@sha256:")
    return f"{name.rpartition('/')[2]}@{digest[:12]}"


async def return_model(switch: Switch) -> Rolled:
    """Go back by hand to the model that the task had before. Raises TargetError if there is none."""
    deployment = await switch.api.call("GET", switch.path)
    now, *_ = read_models(deployment, switch)
    notes = read_notes(deployment)
    if BEFORE not in notes:
        raise TargetError(f"{switch.profile.task}: has had no other model", hint="cumulet model roll")
    swapped = {BEFORE: now, BEFORE_SOURCE: read_source(deployment)}
    await _go_back(switch, notes[BEFORE], notes[BEFORE_SOURCE], swapped)
    return Rolled(switch.profile.task, now, notes[BEFORE], changed=True)
