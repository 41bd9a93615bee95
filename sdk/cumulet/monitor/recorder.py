"""The recorder of a site: every minute its load, what its tasks use, how they were scaled; kept on the data disk.

What it has seen is published too: for the agent, which sends it to the hub, and for the Beidou message.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.api import Api
from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, TargetError, ToolError
from cumulet.core.files import write_text
from cumulet.monitor.ring import Bin, Ring, read_ring
from cumulet.monitor.scaling import SCALERS, Reports, ScaleReport, find_changes, read_counts
from cumulet.monitor.sight import Beside, Sight, make_pulse, make_status, read_sight
from cumulet.monitor.usage import MIB
from cumulet.monitor.window import Window, find_window

if TYPE_CHECKING:
    from cumulet.uplink import SiteStatus

FOLDER = Path("/var/lib/cumulet/monitor")
RUN = Path("/run/cumulet")
PULSE_FILE, STATUS_FILE = "pulse.json", "status.json"
"""Where it is published, and how it is called there."""
EVERY = 60.0
WINDOW_SECONDS = 1800
"""A switch of a task's model takes about so long."""
WINDOW_AGE = 900.0
FIX_SECONDS = 3.0
MOST_IN_LOAD = frozenset({3})
"""Values of the load ring: CPU, GPU, memory in percent, and the highest CPU."""
MOST_IN_USAGE = frozenset({1, 2})
"""Values of a task's ring: CPU of a container (mean, highest; thousandths), its memory (highest; MiB), containers."""


class Recorder:
    """Takes samples. One process for a site; it holds the ring of the load open. Without `run` nothing is published."""

    def __init__(self, api: Api, site: str, folder: Path = FOLDER, run: Path | None = None) -> None:
        self.api = api
        self.site = site
        self.folder = folder
        self.reports = Reports(folder / "reports")
        self.reports.settle()
        self._load = Ring(folder / "load.ring", MOST_IN_LOAD)
        self._tasks: dict[Path, Ring] = {}
        self._run = run
        self._window: tuple[float, Window] | None = None
        self._status: SiteStatus | None = None

    def close(self) -> None:
        """Let go of all files."""
        for ring in (self._load, *self._tasks.values()):
            ring.close()
        self._tasks.clear()

    async def sample(self, now: float) -> list[ScaleReport]:
        """Take one sample of everything. Raises TargetError if the cluster does not answer: then there is none."""
        sight = await read_sight(self.api)
        load = sight.load
        if load is not None:
            self._load.add(now, (load.cpu, load.gpu, load.memory, load.cpu))
        for each in sight.usage:
            path = find_usage(self.folder, each.namespace, each.task)
            if path not in self._tasks:
                self._tasks[path] = Ring(path, MOST_IN_USAGE)
            memory = each.memory_most / MIB
            self._tasks[path].add(now, (each.cpu_mean, each.cpu_most, memory, each.containers))
        reports = await self._look_at_scalers(now)
        if self._run is not None:
            await self._publish(self._run, sight, now)
        return reports

    async def _publish(self, folder: Path, sight: Sight, now: float) -> None:
        """Write what the hub and the sky are told."""
        from cumulet.central import write_pulse  # noqa: PLC0415 - slow to import
        from cumulet.spool import look_at  # noqa: PLC0415 - slow to import
        from cumulet.uplink import write_status  # noqa: PLC0415 - slow to import

        beside = Beside(self._find_window(now), look_at(), await asyncio.to_thread(find_position))
        self._status = make_status(self.site, sight, beside, now)
        try:
            write_text(folder / PULSE_FILE, write_pulse(make_pulse(sight, beside, now)) + "\n")
            write_status(self._status, folder / STATUS_FILE)
        except ToolError as error:
            raise TargetError(f"not published: {error.message}") from error

    def _publish_silence(self, folder: Path, now: float) -> None:
        """The cluster does not answer: the sky must be told of it, with what was known before."""
        from cumulet.uplink import SiteStatus, write_status  # noqa: PLC0415 - slow to import

        last = self._status or SiteStatus(site=self.site, sequence=0, time=0)
        alarms = tuple(dict.fromkeys(("control-plane", *last.alarms)))
        with contextlib.suppress(ToolError):  # a sample that failed is told already
            write_status(
                replace(last, time=int(now), servers_ready=0, alarms=alarms, note="API does not answer"),
                folder / STATUS_FILE,
            )

    def _find_window(self, now: float) -> Window:
        """The next quiet stretch. Looking for it is work, and it does not change from minute to minute."""
        known = self._window
        if known is None or not 0 <= now - known[0] < WINDOW_AGE or known[1].start < now:
            bins = read_ring(self.folder / "load.ring", now)
            self._window = known = (
                now, find_window(bins, WINDOW_SECONDS, now, utc_offset=time.localtime(now).tm_gmtoff)
            )  # fmt: skip
        return known[1]

    async def _look_at_scalers(self, now: float) -> list[ScaleReport]:
        scalers = (await self.api.call("GET", SCALERS)).get("items", [])
        known = self.reports.load_known()
        reports = find_changes(self.site, known, scalers, now)
        self.reports.add(reports, read_counts(scalers))
        return reports

    async def run(self, tell: Callable[[str], None], every: float = EVERY) -> None:
        """Take samples until it is cancelled. What fails is told, and tried again at the next one."""
        while True:
            begin = time.monotonic()
            try:
                for report in await self.sample(time.time()):
                    tell(f"{report.task}: {report.before} -> {report.after}: {report.why}")
            except CumuletError as error:
                if not isinstance(error, TargetError):
                    raise
                tell(f"no sample: {error.message}")
                if self._run is not None:
                    self._publish_silence(self._run, time.time())
            await asyncio.sleep(max(0.0, every - (time.monotonic() - begin)))


def find_position() -> tuple[float, float] | None:
    """Where the site is, if a receiver knows it."""
    from cumulet.uplink import read_fix  # noqa: PLC0415 - slow to import

    try:
        return read_fix(Deadline.after(FIX_SECONDS)).position
    except TargetError:
        return None  # most sites have no receiver


def find_usage(folder: Path, namespace: str, task: str) -> Path:
    """The ring of a task's usage."""
    return folder / "usage" / f"{namespace}.{task}.ring"


def load_usage(folder: Path, namespace: str, task: str, now: float) -> list[Bin]:
    """What was kept of a task's usage."""
    return read_ring(find_usage(folder, namespace, task), now)
