"""A console on a pair of sockets: what is kept, logged, found and cleaned."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from cumulet.core.deadline import Deadline
from cumulet_qemu.console import Console
from cumulet_qemu.machine import Options, make_disk_size
from cumulet_qemu.shell import make_line


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Console, socket.socket]]:
    """A console and the guest's end of its line."""
    ours, guest = socket.socketpair()
    with guest, Console(ours, tmp_path / "console.log", time.monotonic()) as console:
        yield console, guest


def wait(console: Console, pattern: str) -> re.Match[str] | None:
    return console.wait_line(re.compile(pattern), 0, Deadline.after(5), 5)


def test_lines_are_kept_without_escapes_and_logged_with_time(
    pair: tuple[Console, socket.socket], tmp_path: Path
) -> None:
    console, guest = pair
    guest.sendall(b"\x1b[0;32m  OK  \x1b[0m started\r\n\x1b[=3hone\x07\r\nhalf")
    assert wait(console, "one")
    assert console.tail() == ["  OK   started", "one", "half"]
    log = (tmp_path / "console.log").read_text().splitlines()
    assert re.fullmatch(r"\[ *\d+\.\d{3}\]   OK   started", log[0])


def test_line_that_arrives_in_pieces_is_one_line(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    for piece in (b"cumulet: rea", b"dy 12", b".5\r", b"\n"):
        guest.sendall(piece)
    match = wait(console, r"cumulet: ready ([\d.]+)")
    assert match is not None
    assert match[1] == "12.5"


def test_search_starts_where_it_is_told(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    guest.sendall(b"ready\n")
    assert wait(console, "ready")
    assert console.find(re.compile("ready"), console.count()) is None


def test_end_wakes_a_waiting_reader(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    guest.sendall(b"last words")
    guest.close()
    begun = time.monotonic()
    assert wait(console, "never") is None
    assert time.monotonic() - begun < 4
    assert console.wait_end(5)
    assert console.ended
    assert console.tail() == ["last words"]


def test_endless_line_is_cut(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    guest.sendall(b"." * 10000)
    assert wait(console, r"\.{1000}")


def test_mirror_shows_what_was_said_before_it(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    shown: list[bytes] = []
    guest.sendall(b"before\n")
    assert wait(console, "before")
    console.mirror(shown.append)
    guest.sendall(b"after\n")
    assert wait(console, "after")
    console.mirror(None)
    guest.sendall(b"unseen\n")
    assert wait(console, "unseen")
    assert b"".join(shown) == b"before\nafter\n"


def test_stream_speaks_to_pexpect(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    stream = console.stream()
    guest.sendall(b"login: ")
    assert stream.expect([b"login: ", pexpect.TIMEOUT], timeout=5) == 0
    assert stream.expect([b"more", pexpect.TIMEOUT], timeout=0.05) == 1
    guest.close()
    assert stream.expect([b"more", pexpect.EOF], timeout=5) == 1


def test_what_is_sent_reaches_the_guest(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    console.send(b"ls\n")
    assert guest.recv(10) == b"ls\n"


def test_sending_to_an_ended_console_is_no_error(pair: tuple[Console, socket.socket]) -> None:
    console, guest = pair
    guest.close()
    console.send(b"x" * 100)
    console.send(b"x" * 100)
    assert console.wait_end(5)


def test_command_longer_than_a_terminal_line_is_refused() -> None:
    with pytest.raises(ValueError, match="longer than 4000 bytes"):
        make_line("echo " + "x" * 4000)
    assert make_line("echo 'a b'") == """sh -c 'echo '"'"'a b'"'"'' </dev/null 2>&1"""


def test_disk_has_room_to_grow_unless_the_user_says_otherwise() -> None:
    assert make_disk_size(1 << 30, Options()) == 8 << 30
    assert make_disk_size(20 << 30, Options()) == 22 << 30
    assert make_disk_size(20 << 30, Options(disk_size=21 << 30)) == 21 << 30
