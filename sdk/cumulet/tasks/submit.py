"""Tasks brought to a cluster in the order of their plan, and a look at whether the scheduler did what was planned."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from cumulet.core.api import Api, Json
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, UsageError
from cumulet.packing import TASK_LABEL, Decision, Limits, Plan, find_differences, find_standard, make_plan
from cumulet.tasks.cluster import OVER, read_edge
from cumulet.tasks.edge import EdgeProfile
from cumulet.tasks.manifests import make_autoscaler, make_workload, scales
from cumulet.tasks.need import make_needs
from cumulet.tasks.profile import TaskProfile

APPLY = "application/apply-patch+yaml"
OWNER = "cumulet-tasks"
PAUSE = 0.1
INDEX = "batch.kubernetes.io/job-completion-index"
Spread = Callable[[TaskProfile, Decision], Awaitable[object]]
"""Starts a task as a super container and comes back when each of its members has its node."""
PLURALS = {"Deployment": "deployments", "Job": "jobs", "HorizontalPodAutoscaler": "horizontalpodautoscalers"}


@dataclass(frozen=True, slots=True)
class Submitted:
    """The plan, where the containers are, and where the two differ."""

    plan: Plan
    places: Mapping[str, str]
    differences: tuple[str, ...]


def plan_tasks(profiles: Sequence[TaskProfile], edge: EdgeProfile, limits: Limits | None = None) -> Plan:
    """The plan of some tasks for an edge as it is; the containers of a task are started together."""
    standard = find_standard(edge.rooms)
    best = make_plan(make_needs(profiles, standard), edge.rooms, limits)
    by_name = {profile.task: profile for profile in profiles}
    order = dict.fromkeys(find_task(each.need.name, by_name) for each in best.decisions)
    together = make_plan(make_needs([by_name[name] for name in order], standard), edge.rooms, limits, ordered=True)
    return best if len(together.waiting) > len(best.waiting) else together


async def submit(
    api: Api,
    profiles: Sequence[TaskProfile],
    *,
    namespace: str = "default",
    seconds: float = 120.0,
    spread: Spread | None = None,
) -> Submitted:
    """Start tasks in the order of their plan, each when the one before it has its node; what runs stays as it is.

    `spread` starts those that are more than a node. Raises TargetError for a task that has no place, and UsageError
    for one that must be spread where nobody can do that, both before anything is started; TargetError for one whose
    containers have no node after `seconds`.
    """
    own = frozenset(profile.task for profile in profiles)
    plan = plan_tasks(profiles, await read_edge(api, namespace, without=own))
    if plan.waiting:
        reasons = "; ".join(f"{each.need.name}: {each.reason}" for each in plan.waiting)
        raise TargetError(reasons, hint="cumulet task plan shows all of them")
    by_name = {profile.task: profile for profile in profiles}
    several = _find_several(plan, by_name)
    if several and spread is None:
        first = next(iter(several.values()))
        raise UsageError(f"{first.need.name}: {first.reason}: a super container", hint="cumulet task run starts it")
    decisions: dict[str, Decision] = {}
    for decision in plan.decisions:
        decisions.setdefault(find_task(decision.need.name, by_name), decision)
    deadline = Deadline.after(seconds)
    for task, decision in decisions.items():
        if spread is not None and task in several:
            await spread(by_name[task], decision)
            # Those that come after it have not used any of their time.
            deadline = Deadline.after(seconds)
            continue
        await start_task(api, by_name[task], decision, namespace)
        await wait_for_nodes(api, by_name[task], namespace, deadline)
    places = await read_places(api, [by_name[task] for task in decisions], namespace, spread=several)
    tasks = {name: find_task(name, by_name) for name in places}
    return Submitted(plan, places, tuple(find_differences(plan, places, tasks)))


async def start_task(
    api: Api, profile: TaskProfile, decision: Decision, namespace: str, model: Json | None = None
) -> None:
    """Make a task's objects, or bring them to what the profile says now."""
    objects = [make_workload(profile, decision, namespace=namespace, model=model)]
    scaler = make_autoscaler(profile, namespace=namespace)
    for each in [*objects, *([scaler] if scaler is not None else [])]:
        await apply(api, each)


async def apply(api: Api, body: Json) -> Json:
    """Server-side apply: what is in `body` becomes ours."""
    meta = body["metadata"]
    path = f"/apis/{body['apiVersion']}/namespaces/{meta['namespace']}/{PLURALS[body['kind']]}/{meta['name']}"
    return await api.call("PATCH", path, body, query={"fieldManager": OWNER, "force": "true"}, content=APPLY)


async def read_pods(api: Api, task: str, namespace: str, *, over: bool = False) -> list[Json]:
    """The pods of a task; those that are over too, if they are asked for."""
    query = {"labelSelector": f"{TASK_LABEL}={task}"}
    found = await api.call("GET", f"/api/v1/namespaces/{namespace}/pods", query=query)
    pods = [pod for pod in found["items"] if "deletionTimestamp" not in pod["metadata"]]
    return pods if over else [pod for pod in pods if pod.get("status", {}).get("phase") not in OVER]


async def wait_for_nodes(api: Api, profile: TaskProfile, namespace: str, deadline: Deadline) -> None:
    """Wait until every container of a task has a node. Raises TargetError with the scheduler's own words."""
    while True:
        # What runs once may be done before anybody looks.
        pods = await read_pods(api, profile.task, namespace, over=True)
        homeless = [pod for pod in pods if not pod["spec"].get("nodeName")]
        if len(pods) >= profile.replicas.least and not homeless:
            return
        if deadline.passed:
            words = [_read_reason(pod) for pod in homeless] or ["there are no pods"]
            raise TargetError(f"{profile.task}: has no node after {deadline.seconds:.0f} s: {words[0]}")
        await asyncio.sleep(PAUSE)


async def read_places(
    api: Api, profiles: Sequence[TaskProfile], namespace: str, *, spread: Collection[str] = ()
) -> dict[str, str]:
    """Container, named as in a plan -> node. Containers of one task are alike, so they are numbered by node.

    `spread`: tasks that are super containers; their members have numbers of their own.
    """
    places: dict[str, str] = {}
    for profile in profiles:
        pods = await read_pods(api, profile.task, namespace, over=True)
        if profile.task in spread:
            places |= _read_members(profile.task, pods)
            continue
        nodes = sorted(node for pod in pods if (node := pod["spec"].get("nodeName")))
        names = [need.name for need in make_needs([profile], find_standard(()))]
        if not scales(profile):
            # Of one whose number follows the load, there may be more than were planned.
            names += [f"{profile.task}+{number}" for number in range(1, len(nodes) - len(names) + 1)]
        places |= dict(zip(names, nodes, strict=False))
    return places


def _find_several(plan: Plan, tasks: Mapping[str, object]) -> dict[str, Decision]:
    """Task -> decision, of those that become super containers. Raises UsageError for one that is to be two of them."""
    found: dict[str, Decision] = {}
    for decision in plan.decisions:
        if decision.kind == "super":
            task = find_task(decision.need.name, tasks)
            if task in found:
                raise UsageError(f"{task}: is more than a node, and is to be there twice", hint="replicas: {least: 1}")
            found[task] = decision
    return found


def _read_members(task: str, pods: Sequence[Json]) -> dict[str, str]:
    """The members of a super container; of those of one number the one that is not over."""
    found = {}
    for pod in sorted(pods, key=lambda pod: pod.get("status", {}).get("phase") not in OVER):
        index, node = pod["metadata"].get("annotations", {}).get(INDEX), pod["spec"].get("nodeName")
        if index is not None and node:
            found[f"{task}-{index}"] = node
    return dict(sorted(found.items()))


def find_task(container: str, tasks: Mapping[str, object]) -> str:
    """The task that a container of a plan belongs to: `detect` for `detect-2`."""
    return container if container in tasks else container.rpartition("-")[0]


def _read_reason(pod: Json) -> str:
    for condition in pod.get("status", {}).get("conditions", []):
        if condition["type"] == "PodScheduled" and condition["status"] != "True":
            return str(condition.get("message", condition.get("reason", "")))
    return "the scheduler has not looked at it"
