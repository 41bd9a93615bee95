"""The plugin as a process: it looks at GPUs and self-test again and again, and registers with every new kubelet."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from cumulet.core.errors import ToolError
from cumulet.gpu.devices import DRI, ENDPOINT, find_gpus
from cumulet.gpu.plugin import KUBELET, Offer, Plugin, register, start_server
from cumulet.inference import STATE, load_report

FOLDER = Path("/var/lib/kubelet/device-plugins")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Places:
    """Where things lie: the kubelet's sockets, the render nodes, the self-test's result."""

    folder: Path = FOLDER
    dri: Path = DRI
    report: Path = STATE


@dataclass
class Process:
    """Runs until `over` is set. `interval`: seconds between two looks."""

    places: Places
    say: Say
    interval: float = 5.0
    over: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Serve, register, and do both again whenever the kubelet was started anew."""
        plugin = Plugin(self.places.report)
        server: grpc.Server | None = None
        seen: tuple[int, int] | None = None
        while True:
            if plugin.show(self.look()):
                self.say(describe(plugin.offer))
            here = self.identify()
            if here is not None and (here != seen or not (self.places.folder / ENDPOINT).exists()):
                if server is not None:
                    server.stop(grace=0).wait()
                server = start_server(plugin, self.places.folder)
                seen = here if self._register() else None
            if self.over.wait(self.interval):
                break
        plugin.end()
        if server is not None:
            server.stop(grace=1).wait()

    def look(self) -> Offer:
        """The GPUs of this computer, healthy if the self-test lets at least one runtime use them."""
        report = load_report(self.places.report)
        return Offer(find_gpus(self.places.dri), report is not None and any(each.gpu for each in report.verdicts))

    def identify(self) -> tuple[int, int] | None:
        """What tells one start of the kubelet from another; None if it is not there."""
        try:
            facts = (self.places.folder / KUBELET).stat()
        except OSError:
            return None
        return facts.st_ino, facts.st_mtime_ns

    def _register(self) -> bool:
        try:
            register(self.places.folder)
        except ToolError as error:
            self.say(error.message)
            return False
        self.say("registered with the kubelet")
        return True


def describe(offer: Offer) -> str:
    """An offer in one line."""
    names = ", ".join(gpu.name for gpu in offer.gpus)
    if not names:
        return "no GPU on this computer"
    return f"{names}: {'offered' if offer.healthy else 'not offered: the self-test has not found it right'}"
