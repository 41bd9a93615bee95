"""The block map: which ranges of the disk image hold content, for `bmaptool copy`.

Version 2.0 of bmaptool's format: blocks of 4 KiB, a SHA-256 per range and one of the map itself.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from cumulet.core.files import write_text
from cumulet_builder.formats import disk
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.render import render

NAME = "disk.bmap"
BLOCK = 4096
Blocks = tuple[int, int, str]
"""First and last block, SHA-256 of their content."""


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `disk.bmap` for the `disk.img` in the same folder, which is made if it is not there."""
    image = bench.folder / disk.NAME
    if not image.exists():
        disk.write(inputs, bench)
    write_text(bench.folder / NAME, make_map(image.stat().st_size, probe_ranges(image)))


def make_map(size: int, ranges: Sequence[Blocks]) -> str:
    """The text of the map for an image of `size` bytes."""
    count = -(-size // BLOCK)
    mapped = sum(last - first + 1 for first, last, _ in ranges)
    # The map's own checksum is that of its text with zeros in the checksum's place.
    zeros = "0" * 64
    text = render(
        "boot/disk.bmap.j2",
        size=size,
        block=BLOCK,
        count=count,
        mapped=mapped,
        percent=f"{mapped * 100 / count:.1f}" if count else "0.0",
        ranges=[(str(first) if first == last else f"{first}-{last}", digest) for first, last, digest in ranges],
        checksum=zeros,
    )
    return text.replace(zeros, hashlib.sha256(text.encode()).hexdigest(), 1)


def probe_ranges(image: Path) -> list[Blocks]:
    """The ranges of a sparse file that are not holes, with their checksums."""
    found: list[Blocks] = []
    with image.open("rb") as stream:
        handle, size, position = stream.fileno(), image.stat().st_size, 0
        while position < size:
            try:
                start = os.lseek(handle, position, os.SEEK_DATA) // BLOCK * BLOCK
            except OSError:
                # ENXIO: nothing but a hole up to the end.
                break
            position = min(-(-os.lseek(handle, start, os.SEEK_HOLE) // BLOCK) * BLOCK, size)
            found.append((start // BLOCK, -(-position // BLOCK) - 1, _digest(handle, start, position)))
    return found


def _digest(handle: int, start: int, end: int) -> str:
    digest = hashlib.sha256()
    while start < end:
        data = os.pread(handle, min(end - start, 4 << 20), start)
        digest.update(data)
        start += len(data)
    return digest.hexdigest()
