"""The simulated devices of one machine: what its image wants of a modem and of a satellite receiver."""

from __future__ import annotations

import contextlib
import functools
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from cumulet.core.errors import UsageError
from cumulet_qemu.machine import Options
from cumulet_qemu.published import Published
from cumulet_qemu.sim.at import Card, Modem
from cumulet_qemu.sim.line import Line, on_socket
from cumulet_qemu.sim.nmea import Receiver


@dataclass(frozen=True)
class Radio:
    """The devices, each None where the image has no use for it, and the lines that they speak on."""

    modem: Modem | None
    receiver: Receiver | None
    lines: Mapping[str, Line]

    def drop(self) -> None:
        """The network goes away, with the call if there is one."""
        self.lines["modem"].say(self._modem.drop)

    def forget(self) -> None:
        """The network forgets the call and tells nobody."""
        self.lines["modem"].say(self._modem.forget)

    def restore(self) -> None:
        """The network is back."""
        self.lines["modem"].say(self._modem.restore)

    @property
    def _modem(self) -> Modem:
        if self.modem is None:
            raise UsageError("no modem is simulated for this image", hint="add feature modem-5g to its recipe")
        return self.modem


def _write_note(log: TextIO, command: str, answer: str) -> None:
    log.write(f"{command} -> {answer}\n")


@contextlib.contextmanager
def open_radio(
    published: Published, options: Options, ports: Mapping[str, socket.socket], logs: Path
) -> Iterator[Radio]:
    """Start the devices on the sockets of their ports, which are closed at the end.

    `modem.log` in `logs` has what the modem was told, and its answers.
    """
    wants_pin = published.modem is not None and bool(published.modem.pin)
    modem = Modem(Card(pin=options.modem_pin if wants_pin else "")) if "modem" in ports else None
    receiver = Receiver() if "gnss" in ports else None
    devices = {"modem": modem, "gnss": receiver}
    with contextlib.ExitStack() as stack:
        if modem is not None:
            log = stack.enter_context((logs / "modem.log").open("w", buffering=1))
            modem.note = functools.partial(_write_note, log)
        lines = {}
        for name, connection in ports.items():
            device = devices[name]
            if device is not None:
                lines[name] = stack.enter_context(on_socket(device, connection))
        yield Radio(modem, receiver, lines)
