"""A serial console: everything the guest says is taken in at once, kept, and logged with time stamps.

A thread empties the socket all the time, so the guest is never held up by a
reader that looks elsewhere. Readers wait for lines, or use the text stream
through pexpect.
"""

from __future__ import annotations

import collections
import re
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING

import pexpect
from pexpect.spawnbase import SpawnBase

from cumulet.core.deadline import Deadline

if TYPE_CHECKING:
    Base = SpawnBase[bytes]
else:
    Base = SpawnBase  # generic in its type stubs only

ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()][A-Z0-9]|[=>78cDEHMNOZ])")
CHUNK = 65536
LONGEST_LINE = 4096


class Console:
    """One console on a connected socket, logged to `log`; `lines` are whole lines without escapes."""

    def __init__(self, connection: socket.socket, log: Path, began: float) -> None:
        self._socket = connection
        self._began = began
        self._log: IO[str] = log.open("a", encoding="utf-8")
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._partial = ""
        self._unread: collections.deque[bytes] = collections.deque()
        self._ended = False
        self._mirror: Callable[[bytes], None] | None = None
        self._thread = threading.Thread(target=self._pump, name=f"console-{log.stem}", daemon=True)
        self._thread.start()

    def __enter__(self) -> Console:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def ended(self) -> bool:
        """Whether the other side closed the console: QEMU is gone."""
        with self._changed:
            return self._ended

    def wait_end(self, seconds: float) -> bool:
        """Wait at most `seconds` until everything that was said is here and the console ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._ended, seconds)

    def count(self) -> int:
        """How many whole lines there are: a place to search on from."""
        with self._changed:
            return len(self._lines)

    def tail(self, count: int = 50) -> list[str]:
        """The last `count` lines, the unfinished one included."""
        with self._changed:
            last = _clean(self._partial)
            return [*self._lines, *([last] if last else [])][-count:]

    def find(self, pattern: re.Pattern[str], since: int = 0) -> re.Match[str] | None:
        """The first match in the lines from number `since` on, or None."""
        with self._changed:
            return self._find(pattern, since)

    def wait_line(
        self, pattern: re.Pattern[str], since: int, deadline: Deadline, seconds: float = 1.0
    ) -> re.Match[str] | None:
        """Wait at most `seconds` for a matching line; None if there is none yet or the console ended."""
        end = Deadline.after(min(seconds, deadline.left))
        with self._changed:
            while True:
                match = self._find(pattern, since)
                if match is not None or self._ended or end.passed:
                    return match
                self._changed.wait(end.left)

    def read(self, size: int, seconds: float | None) -> bytes:
        """At most `size` bytes that nobody read yet; nothing after `seconds`. Raises EOFError at the end."""
        with self._changed:
            self._changed.wait_for(lambda: bool(self._unread) or self._ended, seconds)
            if not self._unread:
                if self._ended:
                    raise EOFError
                return b""
            chunk = self._unread.popleft()
            if len(chunk) > size:
                self._unread.appendleft(chunk[size:])
            return chunk[:size]

    def send(self, data: bytes) -> None:
        """Type `data`. A console that ended takes nothing."""
        try:
            self._socket.sendall(data)
        except OSError:
            self._end()

    def mirror(self, sink: Callable[[bytes], None] | None) -> None:
        """Hand every byte to `sink` too: first what nobody read yet, then what comes in. None ends that."""
        with self._changed:
            self._mirror = sink
            if sink is not None:
                for chunk in self._unread:
                    sink(chunk)

    def stream(self) -> Stream:
        """The console's unread output for pexpect."""
        return Stream(self)

    def close(self) -> None:
        """Close the socket and the log."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            self._end()
        self._thread.join(5)
        self._socket.close()
        self._log.close()

    def _find(self, pattern: re.Pattern[str], since: int) -> re.Match[str] | None:
        for line in self._lines[since:]:
            match = pattern.search(line)
            if match:
                return match
        return None

    def _pump(self) -> None:
        while True:
            try:
                data = self._socket.recv(CHUNK)
            except OSError:
                data = b""
            if not data:
                break
            with self._changed:
                self._take(data)
                if self._mirror is not None:
                    self._mirror(data)
                self._changed.notify_all()
        self._end()

    def _take(self, data: bytes) -> None:
        self._unread.append(data)
        *whole, self._partial = (self._partial + data.decode("utf-8", "replace")).split("\n")
        if len(self._partial) > LONGEST_LINE:
            whole, self._partial = [*whole, self._partial], ""
        stamp = f"[{time.monotonic() - self._began:9.3f}] "
        for line in map(_clean, whole):
            self._lines.append(line)
            self._log.write(f"{stamp}{line}\n")
        if whole:
            self._log.flush()

    def _end(self) -> None:
        with self._changed:
            if not self._ended and self._partial:
                self._lines.append(_clean(self._partial))
                self._log.write(f"[   ended] {_clean(self._partial)}\n")
                self._partial = ""
            self._ended = True
            self._log.flush()
            self._changed.notify_all()


class Stream(Base):
    """pexpect's view of a console: what was not read yet, as bytes."""

    def __init__(self, console: Console) -> None:
        super().__init__(timeout=None)
        self._console = console
        self.closed = False
        # The console's own thread does the reading, so there is nobody to yield to.
        self.delayafterread = None

    def read_nonblocking(self, size: int = 1, timeout: float | None = None) -> bytes:
        """At most `size` bytes. Raises pexpect's TIMEOUT and EOF, as its callers expect."""
        try:
            data = self._console.read(size, timeout)
        except EOFError as error:
            self.flag_eof = True
            raise pexpect.EOF("console ended") from error
        if not data:
            raise pexpect.TIMEOUT("nothing said")
        return data


def _clean(line: str) -> str:
    """A line as a person reads it: no escapes, no control characters, the last overwriting counts."""
    text = ESCAPES.sub("", line).rstrip("\r")
    text = text.rsplit("\r", 1)[-1]
    return "".join(character for character in text if character == "\t" or character.isprintable())
