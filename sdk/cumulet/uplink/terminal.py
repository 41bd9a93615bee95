"""A Beidou terminal on a serial line: sends the newest status, never more often than its card may.

`Terminal` decides, and is given bytes and the time; `open_line` and `run_terminal` do the reading and writing.
"""

from __future__ import annotations

import contextlib
import os
import select
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import TargetError, ToolError
from cumulet.uplink.rdss import (
    Beams,
    Card,
    Dialect,
    Feedback,
    Message,
    make_beam_query,
    make_card_query,
    make_transmission,
    read_report,
)
from cumulet.uplink.sentence import Lines

PERIOD = 60.0
ANSWER_SECONDS = 15.0
ASK_SECONDS = 10.0
BEAM_SECONDS = 5
SPEED = termios.B115200


@dataclass(slots=True)
class Tally:
    """What a terminal did: messages sent, refused and never answered, sentences that were damaged."""

    sent: int = 0
    refused: int = 0
    unanswered: int = 0
    damaged: int = 0
    reason: str = "no card was seen yet"


class Terminal:
    """The state of one terminal. Times are seconds of a monotonic clock.

    Only the newest offered message is sent: an old status is of no use. `period` is raised to the card's.
    """

    def __init__(self, dialect: Dialect, address: str, period: float = PERIOD) -> None:
        self.dialect, self.address, self.period = dialect, address, max(PERIOD, period)
        self.card: Card | None = None
        self.beams = Beams(())
        self.tally = Tally()
        self.received: list[Message] = []
        self._lines, self._next, self._asked = Lines(), 0.0, -ASK_SECONDS
        self._offered: bytes | None = None
        self._under_way: tuple[float, bytes] | None = None

    def offer(self, data: bytes) -> None:
        """This is the newest status; one that was not sent yet is dropped."""
        self._offered = data

    @property
    def up(self) -> bool:
        """Whether a message would have a chance now."""
        return self.card is not None and bool(self.card.number) and self.beams.usable

    def take(self, data: bytes, now: float) -> None:
        """What came from the line."""
        for line in self._lines.feed(data):
            try:
                report = read_report(line)
            except TargetError:
                self.tally.damaged += 1
                continue
            if isinstance(report, Card):
                self.card = report
                self.period = max(self.period, float(report.period))
                self.tally.reason = "" if report.number else "no card"
            elif isinstance(report, Beams):
                self.beams = report
            elif isinstance(report, Message):
                self.received.append(report)
            elif isinstance(report, Feedback):
                self._hear(report, now)

    def give(self, now: float) -> list[bytes]:
        """What is to be written to the line now."""
        if self.card is None or not self.card.number:
            if now - self._asked < ASK_SECONDS:
                return []
            self._asked = now
            return [make_card_query(self.dialect), make_beam_query(self.dialect, BEAM_SECONDS)]
        if self._under_way is not None and now - self._under_way[0] > ANSWER_SECONDS:
            self.tally.unanswered += 1
            self.tally.reason = "the terminal did not answer"
            self._go_back()
        if self._offered is None or self._under_way is not None or now < self._next:
            return []
        if not self.beams.usable:
            self.tally.reason = "no beam has a signal"
            return []
        data, self._offered = self._offered, None
        self._under_way, self._next = (now, data), now + self.period
        return [make_transmission(self.dialect, self.address, data)]

    def _hear(self, report: Feedback, now: float) -> None:
        if self._under_way is None or report.request not in ("TXA", "TCQ"):
            return
        if report.sent:
            self.tally.sent += 1
            self.tally.reason, self._under_way = "", None
        else:
            self.tally.refused += 1
            self.tally.reason = report.reason
            self._next = now + (report.wait or self.period)
            self._go_back()

    def _go_back(self) -> None:
        """The message was not sent: it is tried again, unless there is a newer one."""
        if self._under_way is not None and self._offered is None:
            self._offered = self._under_way[1]
        self._under_way = None


@contextlib.contextmanager
def open_line(device: Path) -> Iterator[int]:
    """A serial device as a file handle, raw, 115200 bits/s. Raises ToolError if it cannot be opened."""
    try:
        handle = os.open(device, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ToolError(f"{device}: {error.strerror}", hint="is the terminal connected?") from error
    try:
        tty.setraw(handle)
        settings = termios.tcgetattr(handle)
        settings[4] = settings[5] = SPEED
        termios.tcsetattr(handle, termios.TCSANOW, settings)
        yield handle
    except termios.error as error:
        raise ToolError(f"{device}: not a serial line") from error
    finally:
        os.close(handle)


def run_terminal(
    terminal: Terminal,
    handle: int,
    stop: threading.Event,
    *,
    clock: Callable[[], float] = time.monotonic,
    beat: float = 0.2,
) -> None:
    """Move bytes between a terminal and its line until `stop` is set. Raises ToolError if the line goes away."""
    while not stop.is_set():
        ready, _, _ = select.select([handle], [], [], beat)
        try:
            if ready:
                data = os.read(handle, 4096)
                if not data:
                    raise ToolError("the line of the Beidou terminal was closed")
                terminal.take(data, clock())
            for sentence in terminal.give(clock()):
                _write_all(handle, sentence)
        except OSError as error:
            raise ToolError(f"the line of the Beidou terminal: {error.strerror}") from error


def _write_all(handle: int, data: bytes) -> None:
    while data:
        _, ready, _ = select.select([], [handle], [], 5.0)
        if not ready:
            raise ToolError("the Beidou terminal takes no more bytes")
        data = data[os.write(handle, data) :]
