"""The disk image: a partition table and four partitions in one sparse file.

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
from cumulet_builder.formats.check import problems_of_disk
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
    with tempfile.TemporaryDirectory(prefix=".disk-", dir=bench.folder) as name:
        work = Path(name)
        esp, data, table = work / "esp.img", work / "data.img", work / "table.img"
        write_esp(inputs, esp, bench)
        write_data(inputs, data, bench)
        write_table(layout, table, bench)
        parts: list[tuple[Path, int, list[Range]]] = [
            (table, 0, [(0, ALIGN), (layout.size - ALIGN, layout.size)]),
            (esp, layout.partition("esp").start, [(0, probe_end(esp))]),
            (inputs.root, layout.partition("root-a").start, [(0, inputs.root.stat().st_size)]),
            (data, layout.partition("data").start, probe_used(data, bench)),
        ]
        image = work / NAME
        with image.open("wb") as stream:
            stream.truncate(layout.size)
            for source, start, ranges in parts:
                copy_ranges(source, stream.fileno(), start, ranges)
        refuse_broken(image, bench)
        image.replace(bench.folder / NAME)


def refuse_broken(image: Path, bench: Bench) -> None:
    """Raise TargetError with everything that would keep the disk from booting."""
    problems = problems_of_disk(image, bench.toolbox)
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


def write_table(layout: Layout, target: Path, bench: Bench) -> None:
    """Write an otherwise empty disk with the partition table."""
    with target.open("wb") as stream:
        stream.truncate(layout.size)
    bench.toolbox.run(
        ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", target],
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
