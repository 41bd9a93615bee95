"""A super container from outside: made, let go when there are nodes, followed, its result fetched, taken away.

Every step may be repeated: what is there already is gone on with.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.core.files import write_text, writing
from cumulet.packing import Amounts, Decision, find_standard, make_plan
from cumulet.supercontainer import judge
from cumulet.supercontainer.judge import SuperStatus
from cumulet.supercontainer.objects import (
    DOOR,
    JOB_LABEL,
    SLACK_SECONDS,
    SuperTask,
    make_job,
    make_merging_service,
    make_secret,
    make_service,
    make_super_task,
)
from cumulet.supercontainer.trust import make_trust
from cumulet.tasks import TaskProfile, find_absence, make_needs, read_edge

PAUSE: Final = 1.0
SCHEDULE_SECONDS: Final = 60.0
"""So long all members may take to get a node; then they let go of what they have and wait again."""
END_SECONDS: Final = 15.0
PATIENCE_SECONDS: Final = 120.0
TRANSIENT: Final = (0, 502, 503, 504)
"""HTTP's status of what is worth another try; 0: there was no answer at all."""
MERGE: Final = "application/merge-patch+json"
APPLY: Final = "application/apply-patch+yaml"
PATHS: Final = {
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "Job": "/apis/batch/v1/namespaces/{}/jobs",
    "Pod": "/api/v1/namespaces/{}/pods",
}
Listener = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Fetched:
    """A result that has been fetched. `meta` says what the bytes in `path` are: kind, dtype, shape."""

    path: Path
    size: int
    sha256: str
    meta: Mapping[str, Any]


class Controller:
    """Looks after the super containers of one namespace. `pause`: seconds between two looks."""

    def __init__(self, api: Api, namespace: str, listen: Listener, *, pause: float = PAUSE) -> None:
        self.api = api
        self.namespace = namespace
        self._listen = listen
        self._pause = pause
        self._last = ""

    async def run(self, profile: TaskProfile, target: Path, *, wait: float = 600.0, **more: str) -> Fetched:
        """Start a task, follow it, fetch its result into `target`, take everything away.

        `wait`: seconds that there may be too few whole nodes. `more`: engine, keep. Raises TargetError, UsageError.
        """
        task = await self.start(profile, await self.decide(profile), wait=wait, **more)
        try:
            status = await self.follow(task.name, Deadline.after(task.seconds + SLACK_SECONDS))
            fetched = await self.fetch(task.name, status, target)
        except TargetError:
            # Nobody is to compute in vain, and the nodes are for others; the logs stay.
            with contextlib.suppress(TargetError):
                await self._suspend(task.name, suspend=True)
            raise
        await self.remove(task.name)
        return fetched

    async def start(self, profile: TaskProfile, decision: Decision, *, wait: float = 600.0, **more: str) -> SuperTask:
        """Start a task on whole nodes as the packing rule has decided; each member has its node when this comes back.

        Whoever wants the result follows it. Parameters and errors as of `run`.
        """
        task = make_super_task(profile, decision, self.namespace, **more)
        await self.create(task)
        await self.admit(task, Deadline.after(wait))
        return task

    async def decide(self, profile: TaskProfile) -> Decision:
        """What the packing rule makes of a task if all nodes were well and idle.

        Raises TargetError if that is not enough.
        """
        rooms = (await read_edge(self.api, self.namespace, without={profile.task}, well=True)).rooms
        idle = [replace(room, used=Amounts(), tasks=(), whole="") for room in rooms]
        decision = make_plan(make_needs([profile], find_standard(idle)), idle).decisions[0]
        if not decision.placed:
            raise TargetError(f"{profile.task}: {decision.reason}", hint="more nodes, or a smaller task")
        return decision

    async def create(self, task: SuperTask) -> None:
        """Make the objects, the job suspended; those that are there stay, but for those of one that has failed."""
        if await self._find("Job", task.name) is not None:
            if (await self.status(task.name)).state != "failed":
                self._tell(f"{task.name}: is there already")
                return
            await self.remove(task.name)
            self._tell(f"{task.name}: has failed before, begins anew")
        await self._put(make_service(task))
        merging = await self._put(make_merging_service(task))
        await self._put(make_secret(task, make_trust(task.name, task.size)))
        await self._put(make_job(task, str(merging["spec"]["clusterIP"])))
        self._tell(f"{task.name}: {task.size} members, suspended")

    async def admit(self, task: SuperTask, deadline: Deadline) -> None:
        """Let the job go once enough whole nodes are free, all or none. Raises TargetError with who has the others."""
        while True:
            job = await self._get("Job", task.name)
            if job["spec"].get("suspend"):
                reason = await self._find_obstacle(task)
                if not reason:
                    await self._suspend(task.name, suspend=False)
                    self._tell(f"{task.name}: {task.size} whole nodes are free, let go")
            if not job["spec"].get("suspend") or not reason:
                reason = await self._wait_for_nodes(task, Deadline.after(min(SCHEDULE_SECONDS, deadline.left + 1)))
                if not reason:
                    return
                await self._suspend(task.name, suspend=True)
            self._tell(f"{task.name}: waits: {reason}")
            if deadline.passed:
                hint = f"it is kept suspended: the same command again, or kubectl delete job {task.name}"
                raise TargetError(f"{task.name}: {reason}", hint=hint)
            await asyncio.sleep(min(self._pause * 2, deadline.left))

    async def follow(self, name: str, deadline: Deadline) -> SuperStatus:
        """Wait for the merged result. Raises TargetError with the members that are the reason."""
        while True:
            status = await self.status(name)
            self._tell(describe(status))
            if status.result is not None:
                return status
            if status.state in ("failed", "complete"):
                text = status.message or "ended, and nobody has taken its result"
                raise TargetError(f"{name}: {text}", hint=f"kubectl logs -l {JOB_LABEL}={name}")
            if deadline.passed:
                text = judge.name_nodes(f"no result after {deadline.seconds:.0f} s", status.missing, status.members)
                raise TargetError(f"{name}: {text}")
            await asyncio.sleep(self._pause)

    async def status(self, name: str) -> SuperStatus:
        """How far a job is. Raises TargetError if there is none."""
        job = await self._get("Job", name)
        pods = await self._pods(name)
        final = judge.find_final(pods)
        said = await self._ask(name, pods, "state")
        status = judge.make_status(job, pods, said)
        if final and status.result is None:
            return replace(status, state="failed", message=judge.name_nodes(final, status.missing, status.members))
        return status

    async def fetch(self, name: str, status: SuperStatus, target: Path) -> Fetched:
        """Fetch the result, check it, and say that it is taken. Raises TargetError."""
        if status.result is None:
            raise TargetError(f"{name}: there is no result yet: {status.state}", hint=f"cumulet super status {name}")
        size, digest = int(status.result["size"]), str(status.result["sha256"])
        found = hashlib.sha256()
        with writing(target) as stream:
            done = 0
            while done < size:
                data = await self._fetch_piece(name, done)
                stream.write(data)
                found.update(data)
                done += len(data)
            if found.hexdigest() != digest:
                raise TargetError(f"{name}: the result that came is not the one that was merged", hint="fetch it again")
        meta = dict(status.result["meta"])
        write_text(target.with_name(f"{target.name}.meta.json"), json.dumps(meta) + "\n")
        await self._ask(name, await self._pods(name), f"taken/{digest}", "POST")
        self._tell(f"{name}: result of {size} bytes is in {target}")
        return Fetched(target, size, digest, meta)

    async def remove(self, name: str) -> None:
        """Take everything away, once the members have ended by themselves or `END_SECONDS` are over."""
        deadline = Deadline.after(END_SECONDS)
        while not deadline.passed:
            job = await self._find("Job", name)
            if job is None or judge.make_status(job, [], None).state in ("complete", "failed", "suspended"):
                break
            await asyncio.sleep(min(self._pause, 0.5))
        whole = (("Job", name), ("Service", name), ("Service", f"{name}-merging"), ("Secret", name))
        for kind, each in whole:
            try:
                # Without being told, the API server takes a job away and leaves its pods.
                path = f"{PATHS[kind].format(self.namespace)}/{each}?propagationPolicy=Background"
                await self._call("DELETE", path)
            except TargetError as error:
                if status_of(error) != 404:
                    raise
        # The job itself goes once its pods have.
        while await self._find("Job", name) is not None and not deadline.passed:
            await asyncio.sleep(min(self._pause, 0.5))

    async def _find_obstacle(self, task: SuperTask) -> str:
        """Why the job cannot be let go, or nothing."""
        rooms = (await read_edge(self.api, self.namespace, without={task.name})).rooms
        decision = make_plan(make_needs([task.profile], find_standard(rooms)), rooms).decisions[0]
        if decision.kind == "super":
            return ""
        away = [
            f"{node['metadata']['name']} ({reason})"
            for node in (await self._call("GET", "/api/v1/nodes"))["items"]
            if (reason := find_absence(node))
        ]
        return f"{decision.reason}; away: {', '.join(away)}" if away else decision.reason

    async def _wait_for_nodes(self, task: SuperTask, deadline: Deadline) -> str:
        while True:
            members = judge.make_members(await self._pods(task.name))
            homeless = [each for each in members if not each.node]
            if len(members) >= task.size and not homeless:
                self._tell(f"{task.name}: on {', '.join(each.node for each in members)}")
                return ""
            if deadline.passed:
                words = [f"member {each.index}: {each.message}" for each in homeless]
                return "; ".join(words) or f"{len(members)} of {task.size} members have been started"
            await asyncio.sleep(min(self._pause, 0.5))

    async def _fetch_piece(self, name: str, offset: int) -> bytes:
        for _ in range(5):
            said = await self._ask(name, await self._pods(name), f"result/{offset}")
            if said is not None and said.get("offset") == offset:
                return base64.b64decode(said["data"])
            await asyncio.sleep(self._pause)
        raise TargetError(f"{name}: the merging member does not hand its result out", hint="the same command again")

    async def _ask(self, name: str, pods: list[Json], path: str, method: str = "GET") -> Json | None:
        """A question at the merging member's door, carried by the API server; None if nobody answers."""
        running = [each for each in judge.make_members(pods) if each.phase == "Running"]
        job = await self._find("Job", name)
        if job is None or not running:
            return None
        secret = await self._get("Secret", name)
        token = base64.b64decode(secret["data"]["token"]).decode()
        merging = int(_read_environment(job).get("CUMULET_MERGING", "0"))
        pod = next((each.pod for each in running if each.index == merging), None)
        if pod is None:
            return None
        where = f"{PATHS['Pod'].format(self.namespace)}/https:{pod}:{DOOR}/proxy/{token}/{path}"
        with contextlib.suppress(TargetError, ValueError):
            return await self.api.call(method, where, {} if method == "POST" else None)
        return None

    async def _pods(self, name: str) -> list[Json]:
        query = {"labelSelector": f"{JOB_LABEL}={name}"}
        found = await self._call("GET", PATHS["Pod"].format(self.namespace), query=query)
        return list(found["items"])

    async def _suspend(self, name: str, *, suspend: bool) -> None:
        path = f"{PATHS['Job'].format(self.namespace)}/{name}"
        await self._call("PATCH", path, {"spec": {"suspend": suspend}}, content=MERGE)

    async def _put(self, body: Json) -> Json:
        path = f"{PATHS[body['kind']].format(self.namespace)}/{body['metadata']['name']}"
        query = {"fieldManager": "cumulet-super", "force": "true"}
        return await self._call("PATCH", path, body, query=query, content=APPLY)

    async def _get(self, kind: str, name: str) -> Json:
        found = await self._find(kind, name)
        if found is None:
            raise TargetError(f"{self.namespace}: there is no super container {name}", hint="cumulet super run TASK")
        return found

    async def _find(self, kind: str, name: str) -> Json | None:
        try:
            return await self._call("GET", f"{PATHS[kind].format(self.namespace)}/{name}")
        except TargetError as error:
            if status_of(error) == 404:
                return None
            raise

    async def _call(self, method: str, path: str, body: Json | None = None, **more: Any) -> Json:
        """A request; while no API server answers, because one of them has just been lost, it is sent again."""
        deadline = Deadline.after(PATIENCE_SECONDS)
        while True:
            try:
                return await self.api.call(method, path, body, **more)
            except TargetError as error:
                if status_of(error) not in TRANSIENT or deadline.passed:
                    raise
                self._tell(error.message)
            await asyncio.sleep(self._pause)

    def _tell(self, text: str) -> None:
        """Say something, once."""
        if text != self._last:
            self._last = text
            self._listen(text)


def describe(status: SuperStatus) -> str:
    """How far a job is, as a line."""
    missing = f", without {', '.join(map(str, status.missing))}" if status.missing else ""
    message = f": {status.message}" if status.message else ""
    replaced = sum(each.attempt for each in status.members)
    again = f", {replaced} replaced" if replaced else ""
    return f"{status.name}: {status.state}{missing}{again}{message}"


def _read_environment(job: Json) -> dict[str, str]:
    found = job["spec"]["template"]["spec"]["containers"][0].get("env", [])
    return {each["name"]: each["value"] for each in found if "value" in each}
