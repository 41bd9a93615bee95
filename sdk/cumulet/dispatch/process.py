"""The dispatcher: looks at the centre's tasks every few seconds, starts what has a place, and says how each is.

One task is started at a time, and the next one when its containers have nodes: so each is planned on what is really
free. All that it knows is in the cluster; it may be killed at any moment and begun again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cumulet.core.api import Api, Json, status_of
from cumulet.core.errors import CumuletError, TargetError, UsageError
from cumulet.core.files import writing
from cumulet.dispatch import judge
from cumulet.dispatch.facts import API_VERSION, KIND, NAMESPACE, TASKS, WORKLOADS, Seen, read_tasks
from cumulet.tasks import TaskProfile, apply, plan_tasks, read_edge

NOT_WANTED = (400, 403, 422)
"""What an API server says of an object that it will not have, whoever asks how often."""
OUT = Path("/var/lib/cumulet/out")
OWNER = "cumulet-dispatch"
APPLY = "application/apply-patch+yaml"
PAUSE = 5.0
PATIENCE = 60.0
"""So many seconds the containers of one task may be without a node before the next one is started anyway."""


class Dispatcher:
    """The tasks of one site. `out` is the folder below which results are put, each task's in its own."""

    def __init__(self, api: Api, site: str, tell: Callable[[str], None], *, out: Path = OUT) -> None:
        self.api, self.site, self.out = api, site, out
        self._tell = tell
        self._said: dict[str, str] = {}
        self._started: dict[str, float] = {}

    async def run(self, pause: float = PAUSE) -> None:
        """Look after the tasks until cancelled; trouble with the cluster is told once and waited out."""
        while True:
            try:
                again = await self.look()
                self._say("the cluster", "")
            except CumuletError as error:
                self._say("the cluster", error.message)
                again = False
            await asyncio.sleep(min(1.0, pause) if again else pause)

    async def look(self) -> bool:
        """One round; whether something was started, so that the next round should come soon. Raises TargetError."""
        tasks = await read_tasks(self.api)
        started = False
        blocked = any(self._waits_for_nodes(seen) for seen in tasks)
        for seen in tasks:
            try:
                profile = judge.read_profile(seen, str(self.out))
            except UsageError as error:
                await self._publish(seen, judge.complete_status(seen, {"phase": "Refused", "message": error.message}))
                continue
            if judge.is_current(seen, profile):
                await self._follow(seen)
            elif not blocked:
                blocked = await self._start(seen, profile)
                started |= blocked
        return started

    def _waits_for_nodes(self, seen: Seen) -> bool:
        since = self._started.get(seen.uid)
        if since is None:
            return False
        here = len(seen.pods) > 0 and not judge.find_homeless(seen)
        if here or time.monotonic() - since > PATIENCE:
            del self._started[seen.uid]
            return False
        return True

    async def _follow(self, seen: Seen) -> None:
        """Keep what it has told at its end, then say how it is."""
        status = judge.make_status(seen)
        result = judge.read_result(seen)
        if result is not None and seen.status.get("delivered") != result[0]:
            await asyncio.to_thread(self._keep, seen.name, *result)
            status["delivered"] = result[0]
        await self._publish(seen, status)

    def _keep(self, task: str, job: str, content: bytes) -> None:
        """A result of a few words, as a file like those that tasks write themselves."""
        folder = self.out / task
        folder.mkdir(parents=True, exist_ok=True)
        with writing(folder / f"{job}.txt") as stream:
            stream.write(content)

    async def _start(self, seen: Seen, profile: TaskProfile) -> bool:
        """Give a task its place by the packing rule; whether it was started."""
        try:
            edge = await read_edge(self.api, self.site, without={profile.task})
            plan = plan_tasks([profile], edge)
            decision = plan.decisions[0]
        except UsageError as error:
            await self._publish(seen, judge.complete_status(seen, {"phase": "Refused", "message": error.message}))
            return False
        except TargetError as error:
            if status_of(error):
                raise
            await self._publish(seen, judge.complete_status(seen, {"phase": "Waiting", "message": error.message}))
            return False
        waiting = next(iter(plan.waiting), None)
        if waiting is not None or decision.kind == "super":
            status = {"phase": "Waiting", "message": (waiting or decision).reason, "wanted": profile.replicas.least}
            if (waiting or decision).kind in ("refused", "super"):
                status["phase"] = "Refused"
            await self._publish(seen, judge.complete_status(seen, status))
            return False
        bodies = judge.make_bodies(seen, profile, decision)
        for kind, old in judge.find_obsolete(seen, bodies):
            await self._remove(kind, old["metadata"]["name"])
            if kind == "Job":
                return True  # the new one in the next round, when the old one is gone
        try:
            for body in bodies:
                await apply(self.api, body)
        except TargetError as error:
            if status_of(error) not in NOT_WANTED:
                raise
            await self._publish(seen, judge.complete_status(seen, {"phase": "Refused", "message": error.message}))
            return False
        self._started[seen.uid] = time.monotonic()
        status = {"phase": "Starting", "message": decision.reason, "wanted": profile.replicas.least}
        await self._publish(seen, judge.complete_status(seen, status))
        return True

    async def _remove(self, kind: str, name: str) -> None:
        options = {"propagationPolicy": "Background"}
        try:
            await self.api.call("DELETE", f"{WORKLOADS[kind]}/{name}", options)
        except TargetError as error:
            if status_of(error) != 404:
                raise

    async def _publish(self, seen: Seen, status: Json) -> None:
        """Write a task's status where it differs from what is there."""
        if status == seen.status:
            return
        words = f"{status['phase']} {status['message']}".strip()
        self._say(seen.name, words)
        meta = {"name": seen.name, "namespace": NAMESPACE}
        body = {"apiVersion": API_VERSION, "kind": KIND, "metadata": meta, "status": status}
        query = {"fieldManager": OWNER, "force": "true"}
        try:
            await self.api.call("PATCH", f"{TASKS}/{seen.name}/status", body, query=query, content=APPLY)
        except TargetError as error:
            if status_of(error) != 404:  # taken away meanwhile
                raise

    def _say(self, what: str, words: str) -> None:
        if self._said.get(what, "") != words:
            self._tell(f"{what}: {words or 'is well again'}")
        self._said[what] = words
