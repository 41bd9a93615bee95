"""The disk image: a partition table and its partitions in one sparse file, with the board's boot loader before them.

Only ranges that must be written are stored, found from the file systems' own
books and not from zeros: a block map made of the image is then safe to flash on
a disk with old content, and two builds have the same holes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from cumulet.core.errors import TargetError, UsageError
from cumulet_builder.formats.check import Loader, Wish, problems_of_disk, sector_option
from cumulet_builder.formats.data import Range, probe_used, write_data
from cumulet_builder.formats.esp import write_esp
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.formats.layout import ALIGN, Layout, make_sfdisk_script

TOOL_PACKAGES = ("fdisk",)
NAME = "disk.img"
BLOCK = 4096


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `disk.img` into the folder, read it back and check it.

    Raises UsageError if a part does not fit its partition, TargetError if what was written would not boot.
    """
    layout = inputs.layout
    check_root_fits(inputs)
    check_loader_fits(inputs)
    with tempfile.TemporaryDirectory(prefix=".disk-", dir=bench.folder) as name:
        work = Path(name)
        esp, data, table = work / "esp.img", work / "data.img", work / "table.img"
        write_data(inputs, data, bench)
        write_table(layout, table, bench)
        parts: list[tuple[Path, int, list[Range]]] = [
            (table, 0, [(0, ALIGN), (layout.size - ALIGN, layout.size)]),
            (inputs.root, layout.partition("root-a").start, [(0, inputs.root.stat().st_size)]),
            (data, layout.partition("data").start, probe_used(data, bench)),
        ]
        if layout.place.esp:
            write_esp(inputs, esp, bench)
            parts.append((esp, layout.partition("esp").start, [(0, probe_end(esp))]))
        if inputs.loader is not None:
            parts.append((inputs.loader, inputs.loader_offset, [(0, inputs.loader.stat().st_size)]))
        image = work / NAME
        with image.open("wb") as stream:
            stream.truncate(layout.size)
            for source, start, ranges in parts:
                copy_ranges(source, stream.fileno(), start, ranges)
        refuse_broken(image, inputs, bench)
        image.replace(bench.folder / NAME)


def refuse_broken(image: Path, inputs: DiskInputs, bench: Bench) -> None:
    """Raise TargetError with everything that would keep the disk from booting."""
    loader = Loader(inputs.loader.read_bytes(), inputs.loader_offset) if inputs.loader is not None else None
    wish = Wish(tuple(each.name for each in inputs.layout.partitions), inputs.layout.place.sector, loader)
    problems = problems_of_disk(image, bench.toolbox, wish)
    if problems:
        raise TargetError("; ".join(f"{image.name}: {each.message}" for each in problems), hint=problems[0].hint)


def check_root_fits(inputs: DiskInputs) -> None:
    """Raise UsageError if the root image is larger than its partition."""
    size, room = inputs.root.stat().st_size, inputs.layout.partition("root-a").size
    if size > room:
        raise UsageError(
            f"disk.root: the root file system takes {size / 2**20:.1f} MiB and the partition has {inputs.sizes.root}",
            hint=f"disk: {{root: {(size + size // 4 >> 20) + 1}MiB}}",
        )


def check_loader_fits(inputs: DiskInputs) -> None:
    """Raise UsageError if the board's boot loader would lie over the partition table or the first partition."""
    if inputs.loader is None:
        return
    place, size = inputs.layout.place, inputs.loader.stat().st_size
    # The table is in sector 1, its 128 entries of 128 bytes follow.
    first, last = place.sector * 2 + 128 * 128, place.start
    if inputs.loader_offset < first:
        raise UsageError(
            f"boot.loader: at byte {inputs.loader_offset} it would lie over the partition table",
            hint=f"boot.loader.offset: {-(-first // 1024)}KiB is the first that does not",
        )
    if inputs.loader_offset + size > last:
        raise UsageError(
            f"boot.loader: {size} bytes from {inputs.loader_offset} on reach into the first partition at {last}",
            hint=f"storage.start: {(inputs.loader_offset + size >> 20) + 1}MiB",
        )


def write_table(layout: Layout, target: Path, bench: Bench) -> None:
    """Write an otherwise empty disk with the partition table."""
    with target.open("wb") as stream:
        stream.truncate(layout.size)
    bench.toolbox.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", *sector_option(layout.place.sector), target],
        folders=[target.parent],
        input=make_sfdisk_script(layout),
        log=bench.log,
    )


def probe_end(path: Path) -> int:
    """Where the last block that is not all zeros ends, in bytes."""
    end, chunk = path.stat().st_size, 1 << 20
    with path.open("rb") as stream:
        while end:
            start = max(0, end - chunk)
            stream.seek(start)
            data = stream.read(end - start).rstrip(b"\0")
            if data:
                return -(-(start + len(data)) // BLOCK) * BLOCK
            end = start
    return 0


def copy_ranges(source: Path, target: int, start: int, ranges: Iterable[Range]) -> None:
    """Copy ranges of `source` into the open file `target`, shifted by `start` bytes.

    Zeros inside a range are written too: they are content.
    """
    with source.open("rb") as stream:
        for first, last in ranges:
            position = first
            while position < last:
                data = os.pread(stream.fileno(), min(last - position, 4 << 20), position)
                # A file may end before its last block does.
                data = data or b"\0" * min(last - position, BLOCK)
                position += os.pwrite(target, data, start + position)
