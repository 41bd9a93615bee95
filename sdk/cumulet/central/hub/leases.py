"""Who is still there: a lease that stays as it was for five periods makes its cluster Unknown.

Counted is how long ago this hub has seen a renewal, on its own clock, so a site with a
wrong clock is not lost; that its clock is wrong is said in a condition of its own.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time

from cumulet.central.hub.clusters import write_condition
from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import Cluster
from cumulet.central.protocol import (
    ACCEPTED,
    AVAILABLE,
    CLOCK_SYNCED,
    LEASES_MISSED,
    SKIP_CLOCK,
    make_condition,
    parse_time,
    same_condition,
)
from cumulet.central.workqueue import WorkQueue

SWEEP_SECONDS = 5.0
CLOCK_SECONDS = 300.0
STOPPED = ("ManagedClusterLeaseUpdateStopped", "Registration agent stopped updating its lease.")
IN_STEP = ("ManagedClusterClockSynced", "The clock of the managed cluster is synced with the hub.")
log = logging.getLogger("cumulet.hub")


class Leases:
    """Remembers one number per cluster: when its lease was last seen to change."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.seen: dict[str, float] = {}
        self.ahead: dict[str, float] = {}
        self.queue = WorkQueue("leases", self.handle, workers=4)
        fleet.on_lease.append(self.note)

    def note(self, name: str, renewed: str) -> None:
        """A lease has come, changed or gone."""
        if not renewed:
            self.seen.pop(name, None)
            return
        now = time.monotonic()
        try:
            age = (datetime.datetime.now(datetime.UTC) - parse_time(renewed)).total_seconds()
        except ValueError:
            return
        if not self.fleet.leases.synced.is_set():
            # At a start, what the lease says is all there is; a clock that is ahead or far behind proves nothing.
            cluster = self.fleet.get(name)
            most = (LEASES_MISSED - 1) * (cluster.lease_seconds if cluster is not None else 60)
            self.seen[name] = now - min(max(age, 0.0), most)
            return
        self.seen[name] = now
        before, self.ahead[name] = self.ahead.get(name), -age
        if before is None or (abs(before) < CLOCK_SECONDS) != (abs(age) < CLOCK_SECONDS):
            self.queue.add(name)

    def silent_for(self, name: str) -> float | None:
        """Seconds since the last renewal that was seen, or None."""
        return time.monotonic() - self.seen[name] if name in self.seen else None

    def is_lost(self, cluster: Cluster) -> bool:
        """Whether the cluster should be Unknown and is not."""
        if cluster.status(ACCEPTED) == "" or cluster.status(AVAILABLE) == "Unknown":
            return False
        if cluster.deleting and cluster.name not in self.seen:
            return True
        silent = self.silent_for(cluster.name)
        return silent is not None and silent >= LEASES_MISSED * cluster.lease_seconds

    async def run(self) -> None:
        """Sweep over all clusters until cancelled."""
        await self.fleet.wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(self.queue.run())
            while True:
                for cluster in self.fleet.all():
                    if self.is_lost(cluster):
                        self.queue.add(cluster.name)
                await asyncio.sleep(SWEEP_SECONDS)

    async def handle(self, name: str) -> float | None:
        """Write what is known of a cluster's lease into its conditions."""
        cluster = self.fleet.get(name)
        if cluster is None:
            return None
        if self.is_lost(cluster):
            await self._set(cluster, AVAILABLE, "Unknown", STOPPED)
            log.warning("%s: has not renewed its lease for %.0f s", name, self.silent_for(name) or 0)
        ahead = self.ahead.get(name)
        if ahead is not None:
            synced = abs(ahead) < CLOCK_SECONDS or cluster.annotations.get(SKIP_CLOCK) == "true"
            await self._set(cluster, CLOCK_SYNCED, "True" if synced else "False", IN_STEP if synced else _off(ahead))
        return None

    async def _set(self, cluster: Cluster, kind: str, status: str, why: tuple[str, str]) -> None:
        made = make_condition(kind, status, *why, before=cluster.conditions)
        old = cluster.condition(kind)
        # How many seconds a clock is off changes all the time; that it is off does not.
        if old is None or old["status"] != status or (kind == AVAILABLE and not same_condition(old, made)):
            await write_condition(self.fleet.kube, cluster.name, made)


def _off(ahead: float) -> tuple[str, str]:
    side = "ahead of" if ahead > 0 else "behind"
    return (
        "ManagedClusterClockOutOfSync",
        f"The cluster's clock is {abs(ahead):.0f} s {side} the hub's. Certificates and leases may be taken for wrong.",
    )
