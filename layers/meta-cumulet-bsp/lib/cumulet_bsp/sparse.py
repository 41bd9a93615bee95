"""Android's sparse image: what `fastboot flash` sends in pieces; holes of the source take no room.

Run as a program: `python3 sparse.py disk.img disk.simg`.
"""

from __future__ import annotations

import os
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

MAGIC = 0xED26FF3A
RAW, DONT_CARE = 0xCAC1, 0xCAC3
HEADER, CHUNK = 28, 12
BLOCK = 4096
# Boot loaders hold a chunk in memory.
MOST = 4096


def write_sparse(source: Path, target: Path) -> None:
    """Write `source`, a file with holes, as the sparse image `target`. Its size must be whole blocks."""
    size = source.stat().st_size
    if size % BLOCK:
        raise ValueError(f"{source}: {size} bytes are not whole blocks of {BLOCK}")
    with source.open("rb") as stream, target.open("wb") as out:
        chunks = list(find_chunks(stream.fileno(), size))
        out.write(struct.pack("<I4H4I", MAGIC, 1, 0, HEADER, CHUNK, BLOCK, size // BLOCK, len(chunks), 0))
        for kind, first, count in chunks:
            data = count * BLOCK if kind == RAW else 0
            out.write(struct.pack("<2H2I", kind, 0, count, CHUNK + data))
            if kind == RAW:
                _copy(stream, out, first * BLOCK, data)


def find_chunks(handle: int, size: int) -> Iterator[tuple[int, int, int]]:
    """(kind, first block, number of blocks) of the whole file, in order."""
    position, total = 0, size // BLOCK
    while position < total:
        start, end = _find_data(handle, position * BLOCK, size)
        first, last = start // BLOCK, -(-end // BLOCK)
        if first > position:
            yield DONT_CARE, position, first - position
        for block in range(first, last, MOST):
            yield RAW, block, min(MOST, last - block)
        position = last


def _find_data(handle: int, offset: int, size: int) -> tuple[int, int]:
    try:
        start = os.lseek(handle, offset, os.SEEK_DATA)
    except OSError:
        # Nothing but a hole up to the end.
        return size, size
    return start, os.lseek(handle, start, os.SEEK_HOLE)


def _copy(source: IO[bytes], target: IO[bytes], offset: int, size: int) -> None:
    source.seek(offset)
    while size:
        data = source.read(min(size, 1 << 20))
        target.write(data)
        size -= len(data)


if __name__ == "__main__":
    write_sparse(Path(sys.argv[1]), Path(sys.argv[2]))
