"""How busy this node's GPU is, as an annotation of the node: the load of a site and `cumulet task edge` read it there.

Only drivers that write `drm-engine-...` into /proc/PID/fdinfo say so; of the others nothing is written.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cumulet.core.errors import ToolError
from cumulet.core.notes import NodeNote
from cumulet.core.watch import PROC, read_clients
from cumulet.inference import find_kubelet, patch_node

EVERY: Final = 60.0
LEAST: Final = 5.0
"""Percent points: smaller changes are not worth a request."""
Client = tuple[str, str, str]
Say = Callable[[str], None]


@dataclass
class Meter:
    """Looks at the clients of all GPUs. `proc` is where processes are; `clock` gives seconds that never go back."""

    proc: Path = PROC
    clock: Callable[[], float] = time.monotonic
    _at: float = 0.0
    _before: dict[Client, int] | None = None

    def look(self) -> float | None:
        """Percent that the busiest engine has worked since the last look; None at the first, and if no driver says."""
        at = self.clock()
        processes = [int(path.name) for path in self.proc.iterdir() if path.name.isdigit()]
        now = read_clients(processes, self.proc)
        before, seconds = self._before, at - self._at
        self._at, self._before = at, now
        if before is None or seconds <= 0 or not (now or before):
            return None
        worked: dict[tuple[str, str], int] = {}
        for (device, client, engine), spent in now.items():
            # What a new client has worked, it has worked since; one that has ended takes its time along.
            done = max(0, spent - before.get((device, client, engine), 0))
            worked[device, engine] = worked.get((device, engine), 0) + done
        return min(100.0, 100 * max(worked.values(), default=0) / 1e9 / seconds)


@dataclass
class Teller:
    """Writes what the meter finds onto this node, if it has changed."""

    say: Say
    meter: Meter = field(default_factory=Meter)
    patch: Callable[[dict[str, object]], object] = patch_node
    _told: float | None = None

    def look(self) -> None:
        """One look. A cluster that does not take it is told of at the next one."""
        busy = self.meter.look()
        if busy is None or (
            self._told is not None and abs(busy - self._told) < LEAST and bool(busy) == bool(self._told)
        ):
            return
        try:
            self.patch({"metadata": {"annotations": {NodeNote.GPU_BUSY: f"{busy:.1f}"}}})
        except ToolError as error:
            self.say(error.message)
        else:
            self._told = busy

    def run(self, over: threading.Event, every: float = EVERY) -> None:
        """Look again and again, while this computer is in a cluster, until it is over."""
        while not over.wait(every):
            if find_kubelet() is not None:
                self.look()
