"""The controller of replica sets: one ManifestWork in the namespace of every chosen cluster, and a summary."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import Work
from cumulet.central.hub.spreading import (
    MOST_BYTES,
    Summary,
    collect_reports,
    descends,
    get_owner,
    make_work_body,
    measure,
    summarize,
)
from cumulet.central.kube import Json, RefusedError
from cumulet.central.protocol import (
    CONTENT,
    HUB_OWNER,
    PLACEMENT_LABEL,
    REPLICA_SETS,
    SET_FINALIZER,
    WORKS,
    make_condition,
    same_condition,
)
from cumulet.central.traces import NoTraces, Traces, read_trace, with_trace
from cumulet.central.workqueue import WorkQueue

CALM_SECONDS = 1.0
AGAIN_SECONDS = 3.0
AT_ONCE = 16


class Replicas:
    """Looks at a replica set when it, its placements or its works change."""

    def __init__(self, fleet: Fleet, traces: Traces | None = None) -> None:
        self.fleet = fleet
        self.traces = traces or NoTraces()
        self.kube = fleet.kube
        self.queue = WorkQueue("replica sets", self.handle, workers=2)
        fleet.on_set.append(self.queue.add)
        fleet.on_work.append(self._work_changed)
        fleet.on_decision.append(self._decision_changed)
        fleet.on_cluster.append(self._cluster_changed)
        self._present: dict[str, bool] = {}

    def _cluster_changed(self, name: str) -> None:
        """Who falls silent or comes back is said in the reports of its tasks."""
        cluster = self.fleet.get(name)
        present = cluster is not None and cluster.available
        if self._present.get(name) != present:
            self._present[name] = present
            for work in [work for work in self.fleet.works.found.values() if work.cluster == name and work.reports]:
                self._work_changed(work)

    def _work_changed(self, work: Work) -> None:
        if work.owner:
            for key, found in self.fleet.sets.found.items():
                if get_owner(found) == work.owner:
                    self.queue.add_after(key, CALM_SECONDS)

    def _decision_changed(self, decision: Json) -> None:
        meta = decision["metadata"]
        name = (meta.get("labels") or {}).get(PLACEMENT_LABEL)
        for key, found in self.fleet.sets.found.items():
            names = [each["name"] for each in found["spec"]["placementRefs"]]
            if found["metadata"]["namespace"] == meta["namespace"] and name in names:
                self.queue.add(key)

    async def handle(self, key: str) -> float | None:
        """Write the works that are missing or differ, delete those that are too many, sum up."""
        found = self.fleet.sets.get(key)
        if found is None:
            return None
        if not self.fleet.synced:
            return 1.0
        works = self.fleet.works_of(get_owner(found))
        if "deletionTimestamp" in found["metadata"]:
            return await self._remove(found, works)
        size = measure(found["spec"]["manifestWorkTemplate"])
        if size > MOST_BYTES:
            problem = f"the manifests are {size} bytes; {MOST_BYTES} are allowed"
            await self._write_status(found, works, (), problem)
            return None
        names = self._find_names(found)
        if names is None:
            await self._write_status(found, works, (), "a placement is not there, or has not chosen yet")
            return None
        await self._keep_finalizer(found, True)
        await self._spread(found, works, names)
        await self._write_status(found, works, names, "")
        return None

    def _find_names(self, found: Json) -> list[str] | None:
        """The chosen clusters, or None as long as a placement has not chosen."""
        meta, names = found["metadata"], set()
        for reference in found["spec"]["placementRefs"]:
            decisions = [
                each
                for each in self.fleet.decisions.found.values()
                if each["metadata"]["namespace"] == meta["namespace"]
                and (each["metadata"].get("labels") or {}).get(PLACEMENT_LABEL) == reference["name"]
                and "status" in each
            ]
            if not decisions:
                return None
            names |= {item["clusterName"] for each in decisions for item in each["status"].get("decisions") or ()}
        return sorted(names)

    async def _spread(self, found: Json, works: Sequence[Work], names: Sequence[str]) -> None:
        meta = found["metadata"]
        wanted = [each["name"] for each in found["spec"]["placementRefs"]]
        placements = [p for name in wanted if (p := self.fleet.placements.get(f"{meta['namespace']}/{name}"))]
        known = {work.cluster: work for work in works}
        turn = asyncio.Semaphore(AT_ONCE)

        async def write(body: Json, parent: str) -> None:
            place = body["metadata"]
            words = {"cluster": place["namespace"], "work": place["name"]}
            async with turn:
                with self.traces.span("create work", parent, **words) as span:
                    await self.kube.apply(WORKS, with_trace(body, span.context), owner=HUB_OWNER)

        async def drop(work: Work) -> None:
            async with turn:
                await self.kube.delete(WORKS, work.name, work.cluster, uid=work.uid)

        kinds: dict[bool, Json] = {}
        bodies: list[Json] = []
        async with asyncio.TaskGroup() as group:
            for name in names:
                cluster, old = self.fleet.get(name), known.pop(name, None)
                if cluster is None or (old is not None and old.deleting):
                    continue
                # All that differs between thousands of clusters is the namespace.
                if cluster.is_hub not in kinds:
                    kinds[cluster.is_hub] = make_work_body(found, placements, cluster)
                body = kinds[cluster.is_hub]
                if old is None or old.content != body["metadata"]["annotations"][CONTENT]:
                    bodies.append({**body, "metadata": {**body["metadata"], "namespace": name}})
            for work in known.values():
                if not work.deleting:
                    group.create_task(drop(work))
        if bodies:
            with self.traces.span("spread", read_trace(found), rollout=meta["name"], clusters=len(bodies)) as span:
                async with asyncio.TaskGroup() as group:
                    for body in bodies:
                        group.create_task(write(body, span.context))

    async def _remove(self, found: Json, works: Sequence[Work]) -> float | None:
        for work in works:
            if not work.deleting:
                await self.kube.delete(WORKS, work.name, work.cluster, uid=work.uid)
        if works and found["spec"].get("cascadeDeletionPolicy", "Background") == "Foreground":
            return AGAIN_SECONDS
        await self._keep_finalizer(found, False)
        return None

    async def _keep_finalizer(self, found: Json, wanted: bool) -> None:
        meta = found["metadata"]
        names = list(meta.get("finalizers") or ())
        if (SET_FINALIZER in names) == wanted:
            return
        kept = [*names, SET_FINALIZER] if wanted else [each for each in names if each != SET_FINALIZER]
        change = {"metadata": {"finalizers": kept or None, "uid": meta["uid"]}}
        try:
            await self.kube.patch(REPLICA_SETS, meta["name"], change, meta["namespace"])
        except RefusedError as error:
            if error.status not in (404, 409):
                raise

    async def _write_status(self, found: Json, works: Sequence[Work], names: Sequence[str], problem: str) -> None:
        meta, status = found["metadata"], found.get("status") or {}
        desired = sum(1 for name in names if not descends(found) or not self._is_hub(name))
        summary = summarize(works, desired)
        made = make_conditions(found, summary, len(names), problem)
        old = {each["type"]: each for each in status.get("conditions") or ()}
        same = all(same_condition(old.get(each["type"]), each) for each in made)
        silent = {work.cluster for work in works if not self._present.get(work.cluster)}
        reports = collect_reports(found, works, silent)
        if same and status.get("summary") == summary.as_status() and status.get("reports", "") == reports:
            return
        first = found["spec"]["placementRefs"][0]["name"]
        parts = [{"name": first, "availableDecisionGroups": f"1 ({len(names)} clusters applied)"}]
        body = {
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "status": {"conditions": made, "summary": summary.as_status(), "placementSummary": parts},
        }
        body["status"] |= {"reports": reports} if reports else {}
        await self.kube.apply(REPLICA_SETS, body, owner=HUB_OWNER, sub="status")

    def _is_hub(self, name: str) -> bool:
        cluster = self.fleet.get(name)
        return cluster is not None and cluster.is_hub


def make_conditions(found: Json, summary: Summary, chosen: int, problem: str) -> list[Json]:
    """PlacementVerified, PlacementRolledOut and ManifestworkApplied, as Open Cluster Management has them."""
    before = (found.get("status") or {}).get("conditions") or ()
    generation = found["metadata"].get("generation", 0)
    verified = ("True", "AsExpected", "")
    if problem:
        verified = ("False", "PlacementDecisionNotFound" if "placement" in problem else "NotAsExpected", problem)
    elif not chosen:
        verified = ("False", "PlacementDecisionEmpty", "no cluster matches")
    applied = ("False", "NotAsExpected", problem or f"{summary.applied} of {summary.total} clusters have applied it")
    rolled = ("False", "Progressing", f"{summary.available} of {summary.total} clusters have it")
    if not problem and summary.total == summary.applied:
        applied = ("True", "AsExpected", "")
    if not problem and summary.total == summary.available:
        rolled = ("True", "Complete", "")
    return [
        make_condition("PlacementVerified", *verified, before, generation=generation),
        make_condition("PlacementRolledOut", *rolled, before, generation=generation),
        make_condition("ManifestworkApplied", *applied, before, generation=generation),
    ]
