"""Deployments at a hub's API server: made, looked at, taken away. Every step may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from cumulet.central.deploy.objects import Where, make_deployment
from cumulet.central.deploy.status import DeploymentStatus, make_deployment_status
from cumulet.central.kube import Json, Kube, Query
from cumulet.central.protocol import PLACEMENTS, REPLICA_SETS, SET_LABEL, TASKS_NAMESPACE, WORKS
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, UsageError
from cumulet.packing import TASK_LABEL, Amounts
from cumulet.tasks import TaskProfile

OWNER = "cumulet-deploy"
PAUSE = 0.5


async def deploy_task(
    kube: Kube,
    profile: TaskProfile,
    where: Where,
    *,
    standard: Amounts | None = None,
    notes: Mapping[str, str] | None = None,
) -> bool:
    """Have a task at the sites of `where`, or bring it to what profile and place say now. Whether that was a change.

    Raises UsageError for a name that something else has; RefusedError, UnreachableError.
    """
    made = make_deployment(profile, where, standard=standard, notes=notes)
    old = await kube.find(REPLICA_SETS, profile.task, TASKS_NAMESPACE)
    if old is not None and not _is_ours(old):
        raise UsageError(
            f"{profile.task}: there is a roll-out of this name that no task was deployed by",
            hint="another name for the task, or take the roll-out back",
        )
    if old is not None and "deletionTimestamp" in old["metadata"]:
        raise TargetError(f"{profile.task}: is being taken away", hint="once it is gone, deploy it again")
    changed = False
    for resource, body in made:
        meta = body["metadata"]
        before = await kube.find(resource, meta["name"], meta.get("namespace", ""))
        after = await kube.apply(resource, body, owner=OWNER)
        changed |= before is None or _get_wish(before) != _get_wish(after)
    return changed


async def read_deployment(kube: Kube, name: str) -> DeploymentStatus:
    """How a deployment is. Raises UsageError if there is none of this name."""
    found = await kube.find(REPLICA_SETS, name, TASKS_NAMESPACE)
    if found is None or not _is_ours(found):
        raise UsageError(f"{name}: no such deployment", hint="cumulet deploy status")
    return make_deployment_status(found, await kube.find(PLACEMENTS, name, TASKS_NAMESPACE))


async def list_deployments(kube: Kube) -> list[DeploymentStatus]:
    """All deployments of this hub's own, by name; those that came from above are not among them."""
    sets = await kube.collect(Query(REPLICA_SETS, TASKS_NAMESPACE, labels=TASK_LABEL))
    placements = await kube.collect(Query(PLACEMENTS, TASKS_NAMESPACE, labels=TASK_LABEL))
    by_name = {each["metadata"]["name"]: each for each in placements}
    found = [make_deployment_status(each, by_name.get(each["metadata"]["name"])) for each in sets]
    return sorted(found, key=lambda each: each.name)


async def remove_deployment(kube: Kube, name: str) -> bool:
    """Take a task away everywhere; sites that are out of touch follow when they are back. Whether there was one.

    The hub keeps the works of sites that have not taken it away yet. Raises UsageError for what is no deployment.
    """
    found = await kube.find(REPLICA_SETS, name, TASKS_NAMESPACE)
    if found is not None and not _is_ours(found):
        raise UsageError(f"{name}: is no deployment of a task", hint="cumulet deploy status")
    # The works go first: without a placement the hub would not know of which clusters they are.
    gone = [await kube.delete(kind, name, TASKS_NAMESPACE) for kind in (REPLICA_SETS, PLACEMENTS)]
    return any(gone)


async def wait_until_gone(kube: Kube, name: str, deadline: Deadline) -> None:
    """Until no work of a deployment is left at this hub. Raises TargetError naming the clusters that keep it."""
    while True:
        works = await kube.collect(Query(WORKS, labels=f"{SET_LABEL}={TASKS_NAMESPACE}.{name}"))
        if not works and await kube.find(REPLICA_SETS, name, TASKS_NAMESPACE) is None:
            return
        if deadline.passed:
            clusters = ", ".join(sorted(each["metadata"]["namespace"] for each in works)[:8])
            raise TargetError(f"{name}: after {deadline.seconds:.0f} s still at {clusters or 'the hub'}")
        await asyncio.sleep(PAUSE)


def _get_wish(found: Json) -> list[Json]:
    """What somebody wants of an object; how it is, and who looks after it, is left out."""
    meta = found["metadata"]
    return [found.get("spec") or {}, meta.get("labels") or {}, meta.get("annotations") or {}]


def _is_ours(found: Json) -> bool:
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(TASK_LABEL) == found["metadata"]["name"])
