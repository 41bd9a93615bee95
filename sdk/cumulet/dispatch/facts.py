"""What a cluster has of the centre's tasks: the tasks, the workload of each, its pods. Reading changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.core.api import Api, Json, status_of
from cumulet.core.errors import TargetError
from cumulet.packing import TASK_LABEL

NAMESPACE = "tasks"
API_VERSION, KIND = "cumulet.dev/v1alpha1", "Task"
TASKS = f"/apis/{API_VERSION}/namespaces/{NAMESPACE}/tasks"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
WORKLOADS = {
    "Deployment": f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
    "Job": f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs",
    "HorizontalPodAutoscaler": f"/apis/autoscaling/v2/namespaces/{NAMESPACE}/horizontalpodautoscalers",
}
PROFILE_NOTE = "cumulet.dev/profile"
"""Annotation of a workload: digest of the profile that it was made of."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A task, and what there is of it. `workloads` by kind; one of a task that was there before is not among them."""

    task: Json
    workloads: dict[str, Json]
    pods: tuple[Json, ...] = ()

    @property
    def name(self) -> str:
        """The task's name."""
        return str(self.task["metadata"]["name"])

    @property
    def uid(self) -> str:
        """The task's identity: another one of the same name is another task."""
        return str(self.task["metadata"]["uid"])

    @property
    def status(self) -> Json:
        """What was last said of it."""
        return dict(self.task.get("status") or {})

    @property
    def workload(self) -> Json | None:
        """What runs its containers."""
        return self.workloads.get("Deployment") or self.workloads.get("Job")


async def read_tasks(api: Api) -> list[Seen]:
    """Every task that is not on its way out. None at all where nobody has sent one yet. Raises TargetError."""
    try:
        found = (await api.call("GET", TASKS))["items"]
    except TargetError as error:
        if status_of(error) != 404:
            raise
        return []
    tasks = [each for each in found if "deletionTimestamp" not in each["metadata"]]
    if not tasks:
        return []
    words = {"labelSelector": TASK_LABEL}
    objects = {kind: (await api.call("GET", path, query=words))["items"] for kind, path in WORKLOADS.items()}
    pods = (await api.call("GET", PODS, query=words))["items"]
    return [make_seen(task, objects, pods) for task in sorted(tasks, key=_age)]


def make_seen(task: Json, objects: dict[str, list[Json]], pods: Sequence[Json]) -> Seen:
    """A task with what belongs to it among all workloads and pods of the namespace."""
    name, uid = task["metadata"]["name"], task["metadata"]["uid"]
    own = {}
    for kind, several in objects.items():
        for each in several:
            owners = [owner["uid"] for owner in each["metadata"].get("ownerReferences") or ()]
            if each["metadata"]["name"] == name and uid in owners:
                own[kind] = each
    mine = [
        pod
        for pod in pods
        if (pod["metadata"].get("labels") or {}).get(TASK_LABEL) == name and "deletionTimestamp" not in pod["metadata"]
    ]
    return Seen(task, own, tuple(mine))


def _age(task: Json) -> tuple[str, str]:
    return str(task["metadata"].get("creationTimestamp", "")), str(task["metadata"]["name"])
