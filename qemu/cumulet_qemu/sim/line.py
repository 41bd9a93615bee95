"""A simulated device on a line: a pseudo-terminal of this computer, or the socket of a port of QEMU."""

from __future__ import annotations

import contextlib
import fcntl
import math
import os
import pty
import select
import socket
import struct
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from typing import Protocol

SIZE = 4096


class Device(Protocol):
    """What can be on a line: both methods give back what the device says."""

    def feed(self, data: bytes) -> bytes:
        """Bytes from the computer."""

    def tick(self, now: float) -> bytes:
        """A second has begun; `now` is seconds since 1970."""


class Line:
    """Runs `device` on an open line in a thread of its own, until `close`. The line stays the caller's."""

    def __init__(self, device: Device, handle: int) -> None:
        self.device = device
        self._handle = handle
        self._lock = threading.Lock()
        self._stop, self._stopper = os.pipe()
        self._thread = threading.Thread(target=self._run, name=f"sim-{type(device).__name__}", daemon=True)
        self._thread.start()

    def say(self, action: Callable[[], bytes]) -> None:
        """Let the device say something on the line: `line.say(modem.drop)`."""
        with self._lock:
            self._write(action())

    def close(self) -> None:
        """End the thread."""
        os.write(self._stopper, b"x")
        self._thread.join()
        os.close(self._stop)
        os.close(self._stopper)

    def _run(self) -> None:
        next_second = math.ceil(time.time())
        while True:
            ready, _, _ = select.select([self._handle, self._stop], [], [], max(0.0, next_second - time.time()))
            if self._stop in ready:
                return
            with self._lock:
                if ready and not self._read():
                    return
                if time.time() >= next_second:
                    # Nobody listens: what a real line says then is lost, and must not be read later.
                    words = self.device.tick(float(next_second))
                    if words and not have_unread(self._handle):
                        self._write(words)
                    next_second = math.floor(time.time()) + 1

    def _read(self) -> bool:
        try:
            data = os.read(self._handle, SIZE)
        except OSError:
            return False
        if data:
            self._write(self.device.feed(data))
        return bool(data)

    def _write(self, data: bytes) -> None:
        while data:
            try:
                data = data[os.write(self._handle, data) :]
            except BlockingIOError:
                select.select([], [self._handle], [], 1.0)
            except OSError:
                return


def have_unread(handle: int) -> bool:
    """Whether the other end has not yet taken what was written before. Terminals cannot tell: False."""
    try:
        answer = fcntl.ioctl(handle, termios.TIOCOUTQ, struct.pack("i", 0))
    except OSError:
        return False
    return bool(struct.unpack("i", answer)[0])


@contextlib.contextmanager
def on_terminal(device: Device) -> Iterator[tuple[str, Line]]:
    """The device on a new pseudo-terminal of this computer: (path for the other end, line)."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    line = Line(device, ours)
    try:
        yield os.ttyname(theirs), line
    finally:
        line.close()
        os.close(ours)
        os.close(theirs)


@contextlib.contextmanager
def on_socket(device: Device, connection: socket.socket) -> Iterator[Line]:
    """The device on a port of QEMU, or anything else at the end of a socket."""
    line = Line(device, connection.fileno())
    try:
        yield line
    finally:
        line.close()
        connection.close()
