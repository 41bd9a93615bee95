"""The recorder of a site: every minute its load, what its tasks use, how they were scaled; kept on the data disk."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from cumulet.core.api import Api
from cumulet.core.errors import CumuletError, TargetError
from cumulet.monitor.ring import Bin, Ring, read_ring
from cumulet.monitor.scaling import SCALERS, Reports, ScaleReport, find_changes, read_counts
from cumulet.monitor.usage import MIB, read_load, read_usage

FOLDER = Path("/var/lib/cumulet/monitor")
EVERY = 60.0
MOST_IN_LOAD = frozenset({3})
"""Values of the load ring: CPU, GPU, memory in percent, and the highest CPU."""
MOST_IN_USAGE = frozenset({1, 2})
"""Values of a task's ring: CPU of a container (mean, highest; thousandths), its memory (highest; MiB), containers."""


class Recorder:
    """Takes samples. One process for a site; it holds the ring of the load open."""

    def __init__(self, api: Api, site: str, folder: Path = FOLDER) -> None:
        self.api = api
        self.site = site
        self.folder = folder
        self.reports = Reports(folder / "reports")
        self.reports.settle()
        self._load = Ring(folder / "load.ring", MOST_IN_LOAD)
        self._tasks: dict[Path, Ring] = {}

    def close(self) -> None:
        """Let go of all files."""
        for ring in (self._load, *self._tasks.values()):
            ring.close()
        self._tasks.clear()

    async def sample(self, now: float) -> list[ScaleReport]:
        """Take one sample of everything. Raises TargetError if the cluster does not answer: then there is none."""
        load = await read_load(self.api)
        if load is not None:
            self._load.add(now, (load.cpu, load.gpu, load.memory, load.cpu))
        for each in await read_usage(self.api):
            path = find_usage(self.folder, each.namespace, each.task)
            if path not in self._tasks:
                self._tasks[path] = Ring(path, MOST_IN_USAGE)
            memory = each.memory_most / MIB
            self._tasks[path].add(now, (each.cpu_mean, each.cpu_most, memory, each.containers))
        return await self._look_at_scalers(now)

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
            await asyncio.sleep(max(0.0, every - (time.monotonic() - begin)))


def find_usage(folder: Path, namespace: str, task: str) -> Path:
    """The ring of a task's usage."""
    return folder / "usage" / f"{namespace}.{task}.ring"


def load_usage(folder: Path, namespace: str, task: str, now: float) -> list[Bin]:
    """What was kept of a task's usage."""
    return read_ring(find_usage(folder, namespace, task), now)
