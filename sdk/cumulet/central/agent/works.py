"""The works that the hub has for us: applied, looked after, reported, taken away.

What the hub wants is kept in memory, packed, so that it is looked after while the hub
is out of reach. What was applied is written down in the cluster, as AppliedManifestWork.
"""

from __future__ import annotations

import asyncio
import datetime
import json
import logging
import random
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cumulet.central.agent.applier import Applier, Outcome, find_stale, make_applied
from cumulet.central.agent.config import AgentConfig
from cumulet.central.agent.manifests import Manifest, read_manifests
from cumulet.central.agent.reports import make_report, same_report
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError
from cumulet.central.protocol import (
    AGENT_OWNER,
    APPLIED_FINALIZER,
    APPLIED_WORKS,
    REPLICA_SETS,
    WORK_FINALIZER,
    WORKS,
    find_condition,
    is_true,
    make_condition,
    make_time,
    parse_time,
)
from cumulet.central.traces import NoTraces, Traces, read_trace, with_trace
from cumulet.central.workqueue import WorkQueue
from cumulet.core.errors import CumuletError

AGAIN_SECONDS = 240.0
PENDING_SECONDS = 3.0
SWEEP_SECONDS = 300.0
GRACE_SECONDS = 3600.0
"""How long what a work has left behind stays when the work is not there any more."""
OTHER_HUB_SECONDS = 86400.0
"""The same for works of a hub that we are not under any more: it may be us who come back."""
log = logging.getLogger("cumulet.agent")


@dataclass(frozen=True, slots=True)
class WorkItem:
    """A ManifestWork; its spec is packed."""

    uid: str
    version: str
    generation: int
    deleting: bool
    finalizers: tuple[str, ...]
    spec: bytes
    status: Json
    trace: str = ""

    def unpack(self) -> Json:
        """The spec."""
        found = json.loads(zlib.decompress(self.spec))
        return found if isinstance(found, dict) else {}


def make_item(found: Json) -> WorkItem:
    """What is kept of a ManifestWork."""
    meta = found["metadata"]
    return WorkItem(
        uid=meta["uid"],
        version=meta["resourceVersion"],
        generation=meta.get("generation", 1),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers") or ()),
        spec=zlib.compress(json.dumps(found.get("spec") or {}, separators=(",", ":")).encode(), 6),
        status=found.get("status") or {},
        trace=read_trace(found),
    )


class Works:
    """All works of one hub."""

    def __init__(
        self, hub: Kube, local: Kube, config: AgentConfig, hub_hash: str, traces: Traces | None = None
    ) -> None:
        self.traces = traces or NoTraces()
        self.hub, self.local, self.config, self.hub_hash = hub, local, config, hub_hash
        self.applier = Applier(local)
        self.queue = WorkQueue("works", self.handle, workers=2)
        self.items: Informer[WorkItem] = Informer(
            hub, Query(WORKS, config.cluster), make_item, self._changed, names=lambda found: found["metadata"]["name"]
        )
        self._done: dict[str, tuple[int, list[Outcome]]] = {}
        self._contexts: dict[str, tuple[str, str]] = {}

    def _changed(self, name: str, old: WorkItem | None, new: WorkItem | None) -> None:
        # Our own reports come back as changes; only what the hub wants is worked on at once.
        if new is None:
            self._done.pop(name, None)
            self._contexts.pop(name, None)
        elif old is None or (old.generation, old.deleting, old.finalizers) != (
            new.generation,
            new.deleting,
            new.finalizers,
        ):
            self.queue.add(name)

    async def run(self) -> None:
        """Look after the works until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.items.run())
            group.create_task(self.queue.run())
            group.create_task(self._feed_back())
            group.create_task(self._sweep())

    async def handle(self, name: str) -> float | None:
        """Bring one work to what the hub wants."""
        item = self.items.get(name)
        if item is None:
            return None
        if item.deleting:
            return await self._remove(name, item)
        if WORK_FINALIZER not in item.finalizers:
            await self._set_finalizers(name, item, [*item.finalizers, WORK_FINALIZER])
            return None
        if is_true(item.status.get("conditions") or (), "Complete"):
            return None
        if not item.trace or says(item, "Applied"):
            return await self._apply(name, item, self._contexts.get(name, ("", ""))[1] or item.trace)
        with self.traces.span("apply", item.trace, work=name, cluster=self.config.cluster) as span:
            self._contexts[name] = (item.trace, span.context)
            again = await self._apply(name, item, span.context)
            wrong = [each.wrong for each in self._done[name][1] if each.wrong]
            if wrong:
                span.fail(wrong[0])
            return again

    async def _apply(self, name: str, item: WorkItem, context: str) -> float:
        """Apply all manifests of a work; the seconds until they are looked at again. `context`: see `traces`."""
        spec = item.unpack()
        record = await self._keep_record(name)
        owner = {
            "apiVersion": APPLIED_WORKS.api_version,
            "kind": APPLIED_WORKS.kind,
            "name": record["metadata"]["name"],
            "uid": record["metadata"]["uid"],
        }
        manifests = [carry(each, context) for each in read_manifests(spec, self.config.kinds)]
        outcomes = [await self.applier.apply(each, spec, owner) for each in manifests]
        left = await self._clear_stale(record, outcomes)
        self._done[name] = (item.generation, outcomes)
        await self._report(name, item, outcomes)
        if left:
            return PENDING_SECONDS
        wrong = any(each.wrong and each.resource is not None for each in outcomes)
        return random.uniform(20, 40) if wrong else AGAIN_SECONDS * random.uniform(1, 1.5)  # noqa: S311

    # --- what was applied, as the cluster knows it

    def _record_name(self, name: str) -> str:
        return f"{self.hub_hash}-{name}"

    async def _keep_record(self, name: str) -> Json:
        body = {
            "metadata": {"name": self._record_name(name), "finalizers": [APPLIED_FINALIZER]},
            "spec": {"hubHash": self.hub_hash, "agentID": self.config.agent, "manifestWorkName": name},
        }
        return await self.local.apply(APPLIED_WORKS, body, owner=AGENT_OWNER)

    async def _clear_stale(self, record: Json, outcomes: Sequence[Outcome]) -> list[Json]:
        """Take away what is not in the work any more; gives back what is not gone yet."""
        before = (record.get("status") or {}).get("appliedResources") or []
        now = make_applied(outcomes)
        # A manifest that could not be applied this time is still wanted.
        wanted = [*now, *(_identify(each) for each in outcomes if not each.uid)]
        stale = find_stale(before, wanted)
        failed = [each for each in before if each not in stale and find_stale([each], now)]
        left = [each for each in stale if not await self.applier.remove(each, record["metadata"]["uid"])]
        resources = sorted([*now, *failed, *left], key=lambda each: json.dumps(each, sort_keys=True))
        if resources != before:
            body = {"metadata": {"name": record["metadata"]["name"]}, "status": {"appliedResources": resources}}
            await self.local.apply(APPLIED_WORKS, body, owner=AGENT_OWNER, sub="status")
        return left

    async def _remove(self, name: str, item: WorkItem) -> float | None:
        """The hub does not want the work any more."""
        if WORK_FINALIZER not in item.finalizers:
            return None
        if not await self._drop_record(self._record_name(name)):
            before = item.status.get("conditions") or ()
            if not is_true(before, "Deleting"):
                made = make_condition("Deleting", "True", "WorkDeleting", "ManifestWork is being deleted", before)
                others = [each for each in before if each["type"] != "Deleting"]
                await self._write_status(name, {**item.status, "conditions": [*others, made]})
            return PENDING_SECONDS
        await self._set_finalizers(name, item, [each for each in item.finalizers if each != WORK_FINALIZER])
        log.info("%s: is gone", name)
        return None

    async def _drop_record(self, record_name: str) -> bool:
        """Take away what was applied, then the record of it. Whether all is gone."""
        record = await self.local.find(APPLIED_WORKS, record_name)
        if record is None:
            return True
        resources = (record.get("status") or {}).get("appliedResources") or []
        gone = [await self.applier.remove(each, record["metadata"]["uid"]) for each in resources]
        if not all(gone):
            return False
        await self.local.delete(APPLIED_WORKS, record_name)
        await self._free(record_name)
        return True

    async def _free(self, record_name: str) -> None:
        try:
            await self.local.patch(APPLIED_WORKS, record_name, {"metadata": {"finalizers": None}})
        except RefusedError as error:
            if error.status != 404:
                raise

    async def _set_finalizers(self, name: str, item: WorkItem, names: list[str]) -> None:
        change = {"metadata": {"finalizers": names or None, "resourceVersion": item.version}}
        try:
            await self.hub.patch(WORKS, name, change, self.config.cluster)
        except RefusedError as error:
            if error.status not in (404, 409):
                raise
            if error.status == 409:
                self.queue.add_after(name, 1.0)

    # --- reports

    async def _report(self, name: str, item: WorkItem, outcomes: Sequence[Outcome]) -> None:
        objects = [await self.applier.read(each) if not each.wrong or each.resource else None for each in outcomes]
        status = make_report(outcomes, objects, item.status, item.generation)
        if same_report(status, item.status):
            return
        if not item.trace or not has_news(status, item.status):
            await self._write_status(name, status)
            return
        context = self._contexts.get(name, ("", ""))[1] or item.trace
        with self.traces.span("report", context, work=name, cluster=self.config.cluster) as span:
            span.note(**{kind.lower(): is_true(status["conditions"], kind) for kind in ("Applied", "Available")})
            await self._write_status(name, status)

    async def _write_status(self, name: str, status: Json) -> None:
        body = {"metadata": {"name": name, "namespace": self.config.cluster}, "status": status}
        try:
            await self.hub.apply(WORKS, body, owner=AGENT_OWNER, sub="status")
        except RefusedError as error:
            if error.status != 404:
                raise

    async def _feed_back(self) -> None:
        """Report what has changed in the objects, every few seconds."""
        while True:
            await asyncio.sleep(self.config.feedback)
            for name, (generation, outcomes) in list(self._done.items()):
                item = self.items.get(name)
                if item is None or item.generation != generation or item.deleting:
                    continue
                try:
                    await self._report(name, item, outcomes)
                except CumuletError as error:
                    log.info("%s: %s", name, error.message)

    # --- what nobody wants any more

    async def _sweep(self) -> None:
        while True:
            await self.items.synced.wait()
            try:
                for record in await self.local.collect(Query(APPLIED_WORKS)):
                    await self._evict(record)
            except CumuletError as error:
                log.info("sweep: %s", error.message)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _evict(self, record: Json) -> None:
        """Take away what a vanished work has left, once its time is up."""
        spec, status, name = record["spec"], record.get("status") or {}, record["metadata"]["name"]
        own = spec["hubHash"] == self.hub_hash
        since = status.get("evictionStartTime")
        if own and self.items.get(spec["manifestWorkName"]) is not None:
            if since:
                await self.local.patch(APPLIED_WORKS, name, {"status": {"evictionStartTime": None}}, sub="status")
            return
        if not since:
            begin: Json = {"status": {"evictionStartTime": make_time()}}
            await self.local.patch(APPLIED_WORKS, name, begin, sub="status")
            return
        age = (datetime.datetime.now(datetime.UTC) - parse_time(since)).total_seconds()
        if age > (GRACE_SECONDS if own else OTHER_HUB_SECONDS):
            log.info("%s: its hub does not know of it (any more), so it goes", name)
            await self._drop_record(name)


def says(item: WorkItem, kind: str) -> bool:
    """Whether the hub has been told that a condition is True for what it wants now."""
    found = find_condition(item.status.get("conditions") or (), kind) or {}
    return found.get("status") == "True" and int(found.get("observedGeneration", 0)) >= item.generation


def has_news(status: Json, before: Json) -> bool:
    """Whether a work is applied or available now and was not, or the other way."""
    old, new = before.get("conditions") or (), status["conditions"]
    return any(
        (find_condition(old, kind) or {}).get(word) != (find_condition(new, kind) or {}).get(word)
        for kind in ("Applied", "Available")
        for word in ("status", "observedGeneration")
    )


def carry(manifest: Manifest, context: str) -> Manifest:
    """A manifest that the hub of this cluster hands on carries the trace further; others are as they are."""
    if manifest.kind != REPLICA_SETS.kind or manifest.group != REPLICA_SETS.group or not context:
        return manifest
    return replace(manifest, body=with_trace(manifest.body, context))


def _identify(outcome: Outcome) -> Json:
    manifest, resource = outcome.manifest, outcome.resource
    return {
        "group": manifest.group,
        "resource": resource.plural if resource is not None else "",
        "namespace": manifest.namespace,
        "name": manifest.name,
    }
