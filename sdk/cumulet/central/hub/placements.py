"""The controller of placements: writes down which clusters each has chosen."""

from __future__ import annotations

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.placing import Choice, choose, make_decisions
from cumulet.central.kube import Json, RefusedError
from cumulet.central.protocol import (
    DECISIONS,
    HUB_OWNER,
    PLACEMENT_LABEL,
    PLACEMENTS,
    make_condition,
    same_condition,
)
from cumulet.central.workqueue import WorkQueue

CALM_SECONDS = 1.0
GROUP_INDEX = "cluster.open-cluster-management.io/decision-group-index"


class Placements:
    """Looks at a placement when it changes, and at all when clusters change, once per second at most."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.queue = WorkQueue("placements", self.handle, workers=2)
        fleet.on_placement.append(self.queue.add)
        fleet.on_cluster.append(self._cluster_changed)

    def _cluster_changed(self, name: str) -> None:
        for key in self.fleet.placements:
            self.queue.add_after(key, CALM_SECONDS)

    async def handle(self, key: str) -> float | None:
        """Choose again, and write what is different."""
        placement = self.fleet.placements.get(key)
        if placement is None or "deletionTimestamp" in placement["metadata"]:
            return None
        if not self.fleet.synced:
            return 1.0
        before = [each["clusterName"] for each in self._read_decisions(placement)]
        choice = choose(placement, self.fleet.all(), frozenset(before))
        if not choice.wrong:
            await self._write_decisions(placement, choice)
        await self._write_status(placement, choice)
        return None

    def _find_decisions(self, placement: Json) -> list[Json]:
        meta = placement["metadata"]
        found = [
            each
            for each in self.fleet.decisions.found.values()
            if each["metadata"]["namespace"] == meta["namespace"]
            and (each["metadata"].get("labels") or {}).get(PLACEMENT_LABEL) == meta["name"]
        ]
        return sorted(found, key=lambda each: each["metadata"]["name"])

    def _read_decisions(self, placement: Json) -> list[Json]:
        found = self._find_decisions(placement)
        return [item for each in found for item in (each.get("status") or {}).get("decisions") or ()]

    async def _write_decisions(self, placement: Json, choice: Choice) -> None:
        meta = placement["metadata"]
        known = {each["metadata"]["name"]: each for each in self._find_decisions(placement)}
        owner = {
            "apiVersion": PLACEMENTS.api_version,
            "kind": PLACEMENTS.kind,
            "name": meta["name"],
            "uid": meta["uid"],
        }
        for index, portion in enumerate(make_decisions(choice.names), 1):
            name = f"{meta['name']}-decision-{index}"
            old = known.pop(name, None)
            if old is not None and ((old.get("status") or {}).get("decisions") or []) == portion:
                continue
            labels = {PLACEMENT_LABEL: meta["name"], GROUP_INDEX: "0"}
            head = {"name": name, "namespace": meta["namespace"], "labels": labels, "ownerReferences": [owner]}
            if old is None:
                await self.fleet.kube.apply(DECISIONS, {"metadata": head}, owner=HUB_OWNER)
            place = {"name": name, "namespace": meta["namespace"]}
            status = {"metadata": place, "status": {"decisions": portion}}
            await self.fleet.kube.apply(DECISIONS, status, owner=HUB_OWNER, sub="status")
        for name in known:
            await self.fleet.kube.delete(DECISIONS, name, meta["namespace"])

    async def _write_status(self, placement: Json, choice: Choice) -> None:
        meta, status = placement["metadata"], placement.get("status") or {}
        before = status.get("conditions") or ()
        generation = meta.get("generation", 0)
        satisfied = ("True", "AllDecisionsScheduled", "All cluster decisions scheduled")
        if choice.short or choice.wrong:
            satisfied = ("False", "NotAllDecisionsScheduled", choice.wrong or choice.short)
        right = ("False", "Succeedconfigured", "Placement configurations check pass")
        if choice.wrong:
            right = ("True", "Misconfigured", choice.wrong)
        made = [
            make_condition("PlacementSatisfied", *satisfied, before, generation=generation),
            make_condition("PlacementMisconfigured", *right, before, generation=generation),
        ]
        old = {each["type"]: each for each in before}
        count = len(choice.names)
        same = all(same_condition(old.get(each["type"]), each) for each in made)
        if same and status.get("numberOfSelectedClusters", 0) == count:
            return
        body = {
            "metadata": {"name": meta["name"], "namespace": meta["namespace"]},
            "status": {"conditions": made, "numberOfSelectedClusters": count},
        }
        try:
            await self.fleet.kube.apply(PLACEMENTS, body, owner=HUB_OWNER, sub="status")
        except RefusedError as error:
            if error.status != 404:
                raise
