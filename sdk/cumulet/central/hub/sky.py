"""The hub's Beidou terminal: the status of sites that have no other link, as a condition and an annotation of theirs.

Believed is only what is signed with the key of a site, is newer than what is known of it, and comes from a cluster
that is accepted here. What is not believed is counted and named.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumulet.central.hub.clusters import write_condition
from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import Cluster
from cumulet.central.protocol import CLUSTERS, OVER_BEIDOU, SKY, make_condition, same_condition
from cumulet.core.errors import CumuletError, TargetError, UsageError

if TYPE_CHECKING:
    from cumulet.uplink import Message, SiteStatus, Terminal

LOOK_SECONDS = 1.0
SWEEP_SECONDS = 15.0
SILENT_SECONDS = 900.0
"""A site speaks about once a minute; after so long without a word it is not there any more."""
AHEAD_SECONDS = 3600.0
MOST_NODES = 16
MOST_KEY = 1024
log = logging.getLogger("cumulet.hub")


@dataclass(frozen=True, slots=True)
class SkySettings:
    """The line that the terminal is at, the sentences that it speaks, the folder with a file NAME.key per site."""

    device: Path
    keys: Path
    dialect: str = "2.1"


class Sky:
    """Takes in what the terminal receives. `clock` gives seconds since 1970."""

    def __init__(self, fleet: Fleet, settings: SkySettings, clock: Callable[[], float] = time.time) -> None:
        from cumulet.uplink import Terminal  # noqa: PLC0415 - a hub without a terminal need not load it

        self.fleet, self.settings, self.clock = fleet, settings, clock
        self.terminal: Terminal = Terminal("3" if settings.dialect == "3" else "2.1", "0")
        self.tally: Counter[str] = Counter()
        self._last: dict[str, SiteStatus] = {}

    async def run(self) -> None:
        """Listen until cancelled, also while the terminal is away."""
        from cumulet.uplink import keep_terminal  # noqa: PLC0415 - a hub without a terminal need not load it

        await self.fleet.wait()
        stop = threading.Event()
        line = asyncio.ensure_future(asyncio.to_thread(keep_terminal, self.terminal, self.settings.device, stop))
        try:
            swept = 0.0
            while True:
                await self.step()
                if time.monotonic() - swept > SWEEP_SECONDS:
                    swept = time.monotonic()
                    await self.sweep()
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            stop.set()
            await line

    async def step(self) -> None:
        """Take in what has come since the last time."""
        while self.terminal.received:
            message = self.terminal.received.pop(0)
            try:
                status = await self._take(message)
            except CumuletError as error:
                self.tally["refused"] += 1
                log.warning("beidou: from card %s: %s", message.sender, error.message)
            else:
                self.tally["accepted"] += 1
                log.info("beidou: %s: %s", status.site, describe(status))

    async def _take(self, message: Message) -> SiteStatus:
        from cumulet.uplink import decode_status, is_newer  # noqa: PLC0415 - a hub without a terminal need not load it

        keys = load_keys(self.settings.keys)
        status = decode_status(message.data, sorted(keys), keys)
        cluster, now = self.fleet.get(status.site), self.clock()
        if cluster is None or not cluster.accepted:
            raise TargetError(f"{status.site}: is not a cluster of this hub")
        if status.time > now + AHEAD_SECONDS:
            raise TargetError(
                f"{status.site}: its status is {(status.time - now) / 60:.0f} minutes ahead of this clock"
            )
        if not is_newer(status, self._last.get(status.site) or read_last(cluster)):
            raise TargetError(f"{status.site}: a status that is not newer than the one that is known")
        self._last[status.site] = status
        note = json.dumps({"received": int(now), "card": message.sender, "status": make_note(status)})
        await self.fleet.kube.patch(CLUSTERS, cluster.name, {"metadata": {"annotations": {SKY: note}}})
        if not cluster.available:
            await self._say(cluster, "True", ("StatusReceived", describe(status)))
        return status

    async def sweep(self) -> None:
        """Sites that are in touch again, or silent here too, are not over Beidou any more."""
        for cluster in list(self.fleet.all()):
            word = read_sky(cluster)
            if cluster.status(OVER_BEIDOU) != "True":
                continue
            silent = word is None or self.clock() - word["received"] > SILENT_SECONDS
            try:
                if cluster.available:
                    await self._say(cluster, "False", ("InTouch", "it is in touch by another link"))
                elif silent:
                    await self._say(cluster, "False", ("Silent", "nothing has come over Beidou for long either"))
            except CumuletError as error:
                log.warning("beidou: %s", error.message)

    async def _say(self, cluster: Cluster, status: str, why: tuple[str, str]) -> None:
        made = make_condition(OVER_BEIDOU, status, *why, before=cluster.conditions)
        if not same_condition(cluster.condition(OVER_BEIDOU), made):
            await write_condition(self.fleet.kube, cluster.name, made)


def load_settings(path: Path) -> SkySettings:
    """The document of a hub's terminal. Raises UsageError."""
    from cumulet.central.hub.sky_document import load_sky  # noqa: PLC0415 - reads documents, slow to import

    return load_sky(path)


def load_keys(folder: Path) -> dict[str, bytes]:
    """Name of a site -> its key, from files NAME.key. Raises UsageError if one cannot be read, or is none."""
    found: dict[str, bytes] = {}
    try:
        for path in sorted(folder.glob("*.key")):
            key = path.read_bytes()[:MOST_KEY].strip()
            if not key:
                raise UsageError(f"{path}: is empty", hint="head -c 32 /dev/urandom | base64 > NAME.key")
            found[path.stem] = key
    except OSError as error:
        raise UsageError(f"{folder}: cannot be read: {error.strerror}") from error
    return found


def make_note(status: SiteStatus) -> dict[str, Any]:
    """What is kept of a status in the cluster's annotation; of its nodes the first, which are those in trouble."""
    found = asdict(status)
    found["each_node"] = found["each_node"][:MOST_NODES]
    return found


def read_sky(cluster: Cluster) -> dict[str, Any] | None:
    """What is known of a cluster over Beidou: `received` (seconds since 1970), `card`, `status`; or None."""
    try:
        found = json.loads(cluster.annotations.get(SKY, ""))
        return {"received": int(found["received"]), "card": str(found["card"]), "status": dict(found["status"])}
    except (ValueError, KeyError, TypeError):
        return None


def read_last(cluster: Cluster) -> SiteStatus | None:
    """The last status of a cluster that this hub has kept."""
    from cumulet.uplink import load_status  # noqa: PLC0415 - a hub without a terminal need not load it

    word = read_sky(cluster)
    if word is None:
        return None
    # The cluster's own agent may have written there: nothing but what is compared is taken from it.
    kept = {"site": cluster.name, **{name: word["status"].get(name) for name in ("time", "sequence")}}
    if not all(isinstance(kept[name], int) for name in ("time", "sequence")):
        return None
    return load_status(json.dumps(kept))


def describe(status: SiteStatus) -> str:
    """A status in a line."""
    parts = [f"{status.ready} of {status.nodes} nodes are ready", *status.alarms]
    return ", ".join([*parts, status.note] if status.note else parts)


def write_tally(tally: Mapping[str, int]) -> list[tuple[dict[str, str], float]]:
    """The counts as samples of a metric."""
    return [({"result": name}, float(tally[name])) for name in ("accepted", "refused")]
