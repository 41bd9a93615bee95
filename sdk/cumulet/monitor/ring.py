"""A ring file: bins of five minutes for two weeks, in a file that never grows and that no power cut makes unreadable.

One sector of header, then slots of 32 bytes, each with its own checksum. A slot lies inside one sector, so a write
that a power cut tears destroys this one bin and nothing else. A bin that was never written is missing, not zero.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import ToolError
from cumulet.core.files import writing

MAGIC = b"cumulet-ring"
VERSION = 1
SECONDS = 300
DAYS = 14
SLOTS = DAYS * 86400 // SECONDS
HEADER_SIZE = 512
HEADER = struct.Struct("<12sIIII")
SLOT = struct.Struct("<qI4fI")
FIRST_MOMENT = 1_767_225_600.0
"""2026-01-01. A device whose clock shows less has just been switched on and does not know the time yet."""
Values = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Bin:
    """What was seen in five minutes from `start` (seconds since 1970). The ring's owner knows what the values are."""

    start: int
    samples: int
    values: Values


class Ring:
    """A ring file that is written to, by one process at a time.

    Of the samples of a bin the mean is kept, and the highest for the values whose numbers are in `most`.
    """

    def __init__(
        self, path: Path, most: frozenset[int] = frozenset(), *, sync: Callable[[int], None] = os.fdatasync
    ) -> None:
        self.path = path
        self._most = most
        self._sync = sync
        if not path.exists():
            _create(path)
        self._file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._file)
            raise ToolError(f"{path}: another process writes to it", hint="one recorder is enough") from error
        self._repair()

    def close(self) -> None:
        """Let go of the file."""
        os.close(self._file)

    def add(self, when: float, values: Sequence[float]) -> bool:
        """Take a sample. False for one from before there was this format: the clock is wrong, and it is passed over."""
        if when < FIRST_MOMENT:
            return False
        number = int(when // SECONDS)
        sample: Values = (float(values[0]), float(values[1]), float(values[2]), float(values[3]))
        place = HEADER_SIZE + number % SLOTS * SLOT.size
        known = _unpack(os.pread(self._file, SLOT.size, place))
        if known is not None and known.start == number * SECONDS:
            sample = self._merge(known, sample)
            samples = known.samples + 1
        else:
            samples = 1
        os.pwrite(self._file, _pack(number, samples, sample), place)
        self._sync(self._file)
        return True

    def _merge(self, known: Bin, sample: Values) -> Values:
        merged = [
            max(old, new) if index in self._most else old + (new - old) / (known.samples + 1)
            for index, (old, new) in enumerate(zip(known.values, sample, strict=True))
        ]
        return merged[0], merged[1], merged[2], merged[3]

    def _repair(self) -> None:
        """Slots prove themselves, so a damaged header costs nothing, and one of another kind means another file."""
        header = os.pread(self._file, HEADER.size, 0)
        if header != _make_header():
            if header.startswith(MAGIC) and zlib.crc32(header[:-4]) == struct.unpack("<I", header[-4:])[0]:
                os.close(self._file)
                raise ToolError(f"{self.path}: is a ring of another version", hint="move it away")
            os.pwrite(self._file, _make_header(), 0)
        if os.fstat(self._file).st_size < HEADER_SIZE + SLOTS * SLOT.size:
            os.ftruncate(self._file, HEADER_SIZE + SLOTS * SLOT.size)
        os.fsync(self._file)


@contextlib.contextmanager
def open_ring(
    path: Path, most: frozenset[int] = frozenset(), *, sync: Callable[[int], None] = os.fdatasync
) -> Iterator[Ring]:
    """A ring that is closed again. Raises ToolError if another process writes to it."""
    ring = Ring(path, most, sync=sync)
    try:
        yield ring
    finally:
        ring.close()


def read_ring(path: Path, now: float) -> list[Bin]:
    """The bins of the two weeks before `now` that are whole, in their order; none if there is no such file yet.

    Bins of the future are passed over: they are of a time when the clock was wrong.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    found = []
    for place in range(HEADER_SIZE, len(data) - SLOT.size + 1, SLOT.size):
        each = _unpack(data[place : place + SLOT.size])
        if each is not None and now - DAYS * 86400 < each.start <= now:
            found.append(each)
    return sorted(found, key=lambda each: each.start)


def _create(path: Path) -> None:
    with writing(path) as stream:
        stream.write(_make_header().ljust(HEADER_SIZE, b"\0"))
        stream.write(bytes(SLOTS * SLOT.size))


def _make_header() -> bytes:
    head = HEADER.pack(MAGIC, VERSION, SECONDS, SLOTS, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def _pack(number: int, samples: int, values: Values) -> bytes:
    head = SLOT.pack(number, samples, *values, 0)[:-4]
    return head + struct.pack("<I", zlib.crc32(head))


def _unpack(data: bytes) -> Bin | None:
    if len(data) != SLOT.size or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0]:
        return None
    number, samples, *values, _ = SLOT.unpack(data)
    return Bin(number * SECONDS, samples, (values[0], values[1], values[2], values[3]))
