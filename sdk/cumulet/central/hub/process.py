"""The hub as one process: informers, controllers and the entry over HTTP in one event loop."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from cumulet.central.hub.clusters import Clusters
from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.judge import Allowed
from cumulet.central.hub.leases import Leases
from cumulet.central.hub.maker import Maker
from cumulet.central.hub.measures import write_measures
from cumulet.central.hub.metrics import write_metric, write_metrics
from cumulet.central.hub.placements import Placements
from cumulet.central.hub.pulses import Pulses, make_pulse_map
from cumulet.central.hub.replicas import Replicas
from cumulet.central.hub.requests import Requests
from cumulet.central.hub.sky import Sky, write_tally
from cumulet.central.hub.sums import Sums, make_sums, make_sums_map
from cumulet.central.hub.tracks import Tracks
from cumulet.central.hub.web import Answer, Request, Web
from cumulet.central.kube import Kube
from cumulet.central.protocol import CLAIMS, CONFIG_MAPS, HUB_OWNER
from cumulet.central.pulse import same_shape
from cumulet.central.traces import NoTraces, Traces
from cumulet.core.errors import CumuletError

SUMS_SECONDS = 10.0
PULSE_SECONDS = 60.0
log = logging.getLogger("cumulet.hub")


class Hub:
    """Everything that a hub does. Others add routes to `web` and functions to the lists of `fleet` before `run`."""

    def __init__(
        self,
        kube: Kube,
        allowed: Mapping[str, Sequence[Allowed]] | None = None,
        traces: Traces | None = None,
    ) -> None:
        self.kube = kube
        self.traces = traces or NoTraces()
        self.web = Web()
        self.fleet = Fleet(kube)
        self.maker = Maker(self.fleet)
        self.clusters = Clusters(self.fleet, self.maker)
        self.requests = Requests(self.fleet, self.maker, allowed)
        self.leases = Leases(self.fleet)
        self.placements = Placements(self.fleet)
        self.replicas = Replicas(self.fleet, self.traces)
        self.tracks = Tracks(self.fleet, self.traces)
        self.pulses = Pulses(self.fleet)
        self.sums = Sums()
        self.sky: Sky | None = None
        self.web.add("GET", "/livez", self._live)
        self.web.add("GET", "/readyz", self._ready)
        self.web.add("GET", "/metrics", self._metrics)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            self.fleet.start(group)
            for each in (self.clusters, self.requests, self.placements, self.replicas):
                group.create_task(each.queue.run())
            group.create_task(self.leases.run())
            group.create_task(self._publish_sums())
            group.create_task(self._publish_pulse())
            if self.sky is not None:
                group.create_task(self.sky.run())
            group.create_task(self._say_ready())

    async def _say_ready(self) -> None:
        await self.fleet.wait()
        log.info("ready: %d clusters, %d works", len(self.fleet.clusters), len(self.fleet.works))

    async def _publish_sums(self) -> None:
        """Say what is below this hub, for the agent that reports to the hub above."""
        await self.fleet.wait()
        claims: Mapping[str, str] = {}
        while True:
            sums = make_sums(self.fleet.all())
            if sums != self.sums:
                try:
                    await self.kube.apply(CONFIG_MAPS, make_sums_map(sums), owner=HUB_OWNER)
                    claims = await self._write_claims(claims, sums.claims)
                    self.sums = sums
                except CumuletError as error:
                    log.warning("sums: %s", error.message)
            await asyncio.sleep(SUMS_SECONDS)

    async def _publish_pulse(self) -> None:
        """Say what the clusters below say of their tasks; sooner when more than amounts has changed."""
        await self.fleet.wait()
        told, written = None, 0.0
        while True:
            total = self.pulses.total()
            due = time.monotonic() - written >= PULSE_SECONDS or not same_shape(total, told)
            if total is not None and due:
                try:
                    await self.kube.apply(CONFIG_MAPS, make_pulse_map(total), owner=HUB_OWNER)
                    told, written = total, time.monotonic()
                except CumuletError as error:
                    log.warning("pulse: %s", error.message)
            await asyncio.sleep(SUMS_SECONDS)

    async def _write_claims(self, old: Mapping[str, str], new: Mapping[str, str]) -> Mapping[str, str]:
        """The same as ClusterClaims, where a stock agent looks for them. Names there have no slash."""
        if await self.kube.find_kind(CLAIMS) is None:
            return {}
        for name, value in new.items():
            if "/" not in name and old.get(name) != value:
                await self.kube.apply(CLAIMS, {"metadata": {"name": name}, "spec": {"value": value}}, owner=HUB_OWNER)
        return dict(new)

    async def _live(self, request: Request) -> Answer:
        return Answer(200, b"ok\n")

    async def _ready(self, request: Request) -> Answer:
        waiting = [each.query.resource.plural for each in self.fleet.informers if not each.synced.is_set()]
        if waiting:
            return Answer(503, f"not listed yet: {', '.join(waiting)}\n".encode())
        return Answer(200, b"ok\n")

    async def _metrics(self, request: Request) -> Answer:
        queues = [each.queue for each in (self.clusters, self.requests, self.placements, self.replicas, self.leases)]
        text = write_metrics(self.fleet, self.leases, self.requests, queues)
        if self.sky is not None:
            words = ("cumulet_hub_beidou_messages_total", "counter", "Messages that came over Beidou.")
            text += write_metric(*words, write_tally(self.sky.tally))
        return Answer(200, content="text/plain; version=0.0.4; charset=utf-8", stream=self._measure(text))

    async def _measure(self, first: str) -> AsyncIterator[bytes]:
        yield first.encode()
        for text in write_measures(self.pulses):
            yield text.encode()
            await asyncio.sleep(0)  # leases and works go on meanwhile


def read_allowed(text: str) -> dict[str, list[Allowed]]:
    """Devices that need no person: a JSON list of `serial` and `key`. Raises ValueError."""
    found: dict[str, list[Allowed]] = {}
    for each in json.loads(text):
        device = Allowed(str(each["serial"]), str(each["key"]))
        if not device.serial or not device.key.startswith("SHA256:"):
            raise ValueError(f"not a device: {each}")
        found.setdefault(device.serial, []).append(device)
    return found
