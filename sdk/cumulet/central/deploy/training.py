"""A model made on the hub's cluster: jobs run one after the other, and the last one says which model it has made.

A job is a task document with `runs: once`. What it writes into /dev/termination-log goes to the next one as
CUMULET_INPUT; the last one writes the model's reference, or JSON with `model` and, if it has measured the task,
`measured`. A job is named by its document and its input, so that the same one is not run twice.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.protocol import NAMESPACES, TASKS_NAMESPACE
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import sha256_text
from cumulet.core.quantities import parse_seconds, parse_size
from cumulet.packing import TASK_LABEL
from cumulet.tasks import TaskProfile, make_volumes, parse_profile, write_profile

JOBS = Resource("batch", "v1", "jobs", "Job")
PODS = Resource("", "v1", "pods", "Pod")
OWNER = "cumulet-deploy"
INPUT = "CUMULET_INPUT"
RETRIES = 3
PAUSE = 1.0
STUCK = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "CreateContainerConfigError")


@dataclass(frozen=True, slots=True)
class Trained:
    """The task's profile with the model that was made, and the job that made it."""

    profile: TaskProfile
    job: str


async def train(
    kube: Kube, profile: TaskProfile, jobs: Sequence[TaskProfile], deadline: Deadline, tell: Callable[[str], None]
) -> Trained:
    """Run the jobs, or go on with what of them was begun, and put the model into the profile.

    Raises UsageError for a document that is no job, TargetError for a job that failed, does not start, has not ended
    by the deadline (the same call goes on with it), or did not say which model it has made.
    """
    for each in jobs:
        check_job(each)
    await kube.apply(NAMESPACES, {"metadata": {"name": TASKS_NAMESPACE}}, owner=OWNER)
    told, name = "", ""
    for each in jobs:
        body = make_job(each, told)
        name = body["metadata"]["name"]
        told = await _run(kube, body, deadline, tell)
    return Trained(read_output(profile, told, name), name)


def check_job(job: TaskProfile) -> None:
    """Raise UsageError for a document that never ends."""
    if job.runs != "once":
        raise UsageError(f"{job.task}: what makes a model has an end", hint="runs: once")


def make_job(job: TaskProfile, told: str) -> Json:
    """The Job of a document; `told` is what the job before has said. Its name is that of both."""
    name = f"{job.task}-{sha256_text(write_profile(job) + told)[:8]}"
    volumes, mounts = make_volumes(job, None)
    environment = {**job.environment, **({INPUT: told} if told else {})}
    memory = f"{-(-parse_size(job.memory) // 1024)}Ki"
    container: Json = {
        "name": "job",
        "image": job.image,
        "imagePullPolicy": "IfNotPresent",
        "env": [{"name": key, "value": text} for key, text in environment.items()],
        "resources": {"requests": {"memory": memory}},
        "volumeMounts": mounts,
    }
    if job.command:
        container["command"] = list(job.command)
    labels = {TASK_LABEL: job.task}
    pod: Json = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "containers": [container],
        "volumes": volumes,
    }
    spec: Json = {"backoffLimit": RETRIES, "template": {"metadata": {"labels": labels}, "spec": pod}}
    if job.deadline is not None:
        spec["activeDeadlineSeconds"] = parse_seconds(job.deadline)
    return {"metadata": {"name": name, "namespace": TASKS_NAMESPACE, "labels": labels}, "spec": spec}


def read_output(profile: TaskProfile, told: str, job: str) -> TaskProfile:
    """The profile with the model, and the measurements if there are any, that a job has told. Raises TargetError."""
    text = told.strip()
    found: Json = {"model": text}
    if text.startswith("{"):
        try:
            found = json.loads(text)
        except ValueError as error:
            raise TargetError(f"{job}: what it has written is neither a model nor JSON: {error}") from error
    known = {name: found[name] for name in ("model", "measured") if found.get(name)}
    if "model" not in known:
        raise TargetError(
            f"{job}: has ended and did not say which model it has made",
            hint="write the reference of `cumulet model push` into /dev/termination-log",
        )
    document = {"version": 1, **profile.model_dump(mode="json", exclude_defaults=True), **known}
    try:
        return parse_profile(json.dumps(document, ensure_ascii=False), f"the answer of {job}")
    except UsageError as error:
        raise TargetError(f"{job}: {error.message}", hint=error.hint) from error


async def _run(kube: Kube, body: Json, deadline: Deadline, tell: Callable[[str], None]) -> str:
    """What a job has written at its end."""
    name, said = body["metadata"]["name"], ""
    try:
        await kube.create(JOBS, body, TASKS_NAMESPACE)
    except RefusedError as error:
        if error.status != 409:
            raise
    while True:
        job = await kube.get(JOBS, name, TASKS_NAMESPACE)
        pods = await kube.collect(Query(PODS, TASKS_NAMESPACE, labels=f"batch.kubernetes.io/job-name={name}"))
        state, text = judge(job, pods)
        if state == "done":
            return text
        if state == "failed":
            raise TargetError(f"{name}: {text}", hint=f"kubectl -n {TASKS_NAMESPACE} delete job {name}, and again")
        if text != said:
            tell(f"{name}: {text}")
        said = text
        if deadline.passed:
            raise TargetError(
                f"{name}: {text} after {deadline.seconds:.0f} s", hint="it goes on; the same command again waits for it"
            )
        await asyncio.sleep(PAUSE)


def judge(job: Json, pods: Sequence[Json]) -> tuple[str, str]:
    """`done` with what was written, `failed` with the reason, or `runs` with how it is."""
    conditions = {each["type"]: each for each in (job.get("status") or {}).get("conditions") or ()}
    ends = [(pod["status"].get("phase"), _read_end(pod)) for pod in pods]
    if (conditions.get("Complete") or {}).get("status") == "True":
        return "done", next((text for phase, text in ends if phase == "Succeeded" and text), "")
    failed = conditions.get("Failed") or {}
    if failed.get("status") == "True":
        last = next((text for phase, text in ends if phase == "Failed" and text), "")
        return "failed", f"{failed.get('message', 'has failed')}{': ' if last else ''}{last}"
    for pod in pods:
        for state in pod["status"].get("containerStatuses") or ():
            waiting = (state.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") in STUCK:
                return "runs", f"cannot be started: {waiting['reason']}: {waiting.get('message', '')}"
    if any(pod["status"].get("phase") == "Running" for pod in pods):
        return "runs", "runs"
    return "runs", "waits for a node"


def _read_end(pod: Json) -> str:
    for state in pod["status"].get("containerStatuses") or ():
        ended = (state.get("state") or {}).get("terminated") or {}
        if ended.get("message"):
            return str(ended["message"]).strip()
    return ""
