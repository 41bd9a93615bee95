"""Simulated devices on pseudo-terminals and sockets, with a real clock."""

from __future__ import annotations

import os
import select
import socket
import time

from cumulet_qemu.sim.at import Modem
from cumulet_qemu.sim.line import have_unread, on_socket, on_terminal
from cumulet_qemu.sim.nmea import Receiver, have_checksum


def read_until(handle: int, end: bytes, seconds: float = 5.0) -> bytes:
    data, limit = b"", time.monotonic() + seconds
    while end not in data:
        ready, _, _ = select.select([handle], [], [], max(0.0, limit - time.monotonic()))
        assert ready, f"no {end!r} in {data!r}"
        data += os.read(handle, 4096)
    return data


def test_a_modem_answers_on_a_terminal() -> None:
    modem = Modem()
    with on_terminal(modem) as (path, line):
        handle = os.open(path, os.O_RDWR | os.O_NOCTTY)
        try:
            os.write(handle, b"AT+CGMM\r")
            assert b"Simulated modem" in read_until(handle, b"OK\r\n")
            line.say(modem.drop)
            os.write(handle, b"AT+COPS?\r")
            assert b"+COPS: 0\r\n" in read_until(handle, b"OK\r\n")
        finally:
            os.close(handle)


def test_a_receiver_speaks_once_a_second_on_a_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, on_socket(Receiver(), theirs):
        first = read_until(ours.fileno(), b"$GNZDA")
        second = read_until(ours.fileno(), b"$GNZDA")
    seconds = [line for line in (first + second).decode().splitlines() if line.startswith("$GNRMC")]
    assert len(seconds) >= 2
    assert all(map(have_checksum, seconds))
    assert seconds[0] != seconds[1]


def test_what_nobody_reads_is_lost_and_not_told_later() -> None:
    ours, theirs = socket.socketpair()
    with ours:
        assert not have_unread(theirs.fileno())
        theirs.sendall(b"x")
        assert have_unread(theirs.fileno())
        receiver = Receiver()
        with on_socket(receiver, theirs):
            time.sleep(1.2)
            assert ours.recv(4096) == b"x"


def test_the_thread_ends_with_the_other_end() -> None:
    ours, theirs = socket.socketpair()
    with on_socket(Modem(), theirs) as line:
        ours.close()
        line._thread.join(5)
        assert not line._thread.is_alive()
