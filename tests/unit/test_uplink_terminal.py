"""A terminal's pace, with a clock of our own; and the whole way over a pseudo terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet.uplink.rdss import Dialect, Message
from cumulet.uplink.sentence import make_sentence
from cumulet.uplink.status import SiteStatus, decode_status, encode_status
from cumulet.uplink.terminal import Terminal, open_line, run_terminal
from cumulet_qemu.sim.rdss import RdssTerminal

CARD = make_sentence("BDICI", "0242286", "00242286", "0000011", "6", "60", "3", "N", "0")
BEAMS = make_sentence("BDBSI", "01", "03", "3", "0", "0", "0", "0", "0", "0", "0", "0", "0")


def make_ready(period: float = 60.0) -> Terminal:
    terminal = Terminal("2.1", "100", period)
    assert len(terminal.give(0.0)) == 2
    terminal.take(CARD + BEAMS, 0.0)
    assert terminal.up
    return terminal


def feedback(sent: bool, wait: str = "0000") -> bytes:
    return make_sentence("BDFKI", "TXA", "Y" if sent else "N", "Y", "0", wait)


def test_a_minute_lies_between_two_messages() -> None:
    terminal, sent = make_ready(), []
    for second in range(600):
        terminal.offer(f"status {second}".encode())
        for line in terminal.give(float(second)):
            sent.append((second, line))
            terminal.take(feedback(True), float(second))
    assert [second for second, _ in sent] == list(range(0, 600, 60))
    assert bytes.fromhex(sent[5][1].split(b",A4")[1][:-5].decode()) == b"status 300"
    assert terminal.tally.sent == 10


def test_a_slower_card_makes_it_slower() -> None:
    terminal = Terminal("2.1", "100")
    terminal.take(CARD.replace(b",60,", b",90,").replace(b"*38", b"*37") + BEAMS, 0.0)
    assert terminal.period == 90.0
    assert Terminal("2.1", "100", period=1.0).period == 60.0


def test_it_waits_as_long_as_the_terminal_says_and_sends_the_newest() -> None:
    terminal = make_ready()
    terminal.offer(b"old")
    assert terminal.give(0.0)
    terminal.take(feedback(False, "0102"), 1.0)
    assert terminal.tally.reason == "too early"
    terminal.offer(b"new")
    assert terminal.give(62.0) == []
    assert b"6E6577" in terminal.give(63.0)[0]


def test_a_message_that_was_refused_is_tried_again() -> None:
    terminal = make_ready()
    terminal.offer(b"only")
    first = terminal.give(0.0)
    terminal.take(feedback(False), 1.0)
    assert terminal.give(60.0) == []
    assert terminal.give(61.0) == first


def test_a_silent_terminal_is_asked_again_and_counted() -> None:
    terminal = make_ready()
    terminal.offer(b"x")
    assert terminal.give(0.0)
    assert terminal.give(16.0) == []
    assert (terminal.tally.unanswered, terminal.tally.reason) == (1, "the terminal did not answer")
    assert terminal.give(61.0)


def test_without_card_or_beam_nothing_is_sent() -> None:
    terminal = Terminal("2.1", "100")
    terminal.offer(b"x")
    assert all(b"CCTXA" not in line for line in terminal.give(0.0))
    assert terminal.give(5.0) == []
    assert len(terminal.give(10.0)) == 2  # asked again
    terminal.take(make_sentence("BDICI", "0000000", "0", "0", "0", "0", "0", "N", "0"), 11.0)
    assert (terminal.up, terminal.tally.reason) == (False, "no card")
    terminal.take(CARD + BEAMS.replace(b",3,0", b",0,0").replace(b"*", b"*").split(b"*")[0] + b"*00\r\n", 12.0)
    assert terminal.tally.damaged == 1
    assert terminal.give(13.0) == []
    assert terminal.tally.reason == "no beam has a signal"


@contextmanager
def running(terminal: Terminal, device: str) -> Iterator[None]:
    stop = threading.Event()
    with open_line(Path(device)) as handle:
        thread = threading.Thread(target=run_terminal, args=(terminal, handle, stop), kwargs={"beat": 0.01})
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def wait(want: Callable[[], object]) -> None:
    end = time.monotonic() + 5
    while not want():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(("generation", "dialect"), [(2, "2.1"), (3, "3")])
def test_a_status_goes_over_the_line_and_an_answer_comes_back(generation: int, dialect: Dialect) -> None:
    status = SiteStatus("pier-7", 1, 1795608000, nodes=4, ready=3, alarms=("node-lost",))
    with RdssTerminal(generation=generation) as device:
        terminal = Terminal(dialect, "358463")
        terminal.offer(encode_status(status, "global", b"key"))
        with running(terminal, device.device):
            wait(lambda: terminal.tally.sent)
            device.say("BDXXX,1", damage=True)
            device.receive(358463, b"ack")
            wait(lambda: terminal.received)
        ((_, address, data),) = device.sent
        assert address == "358463"
        assert decode_status(data, ["pier-7"], {"pier-7": b"key"}) == status
        assert terminal.received == [Message("358463", b"ack")]
        assert terminal.tally.damaged == 1


def test_a_terminal_that_says_too_early_is_believed() -> None:
    with RdssTerminal(period=60) as device:
        device.sent.append((time.monotonic(), "1", b"by somebody before us"))
        terminal = Terminal("2.1", "358463")
        terminal.offer(b"x")
        with running(terminal, device.device):
            wait(lambda: terminal.tally.refused)
        assert terminal.tally.reason == "too early"
        assert (device.refused, len(device.sent)) == (1, 1)


def test_a_line_that_is_none_is_named(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"ttyS9: No such file"), open_line(tmp_path / "ttyS9"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(ToolError, match="not a serial line"), open_line(tmp_path / "file"):
        pass
