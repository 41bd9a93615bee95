"""Android's sparse image of the disk: what fastboot sends, without the holes."""

from __future__ import annotations

import struct
from pathlib import Path

from cumulet.core.errors import TargetError, ToolError
from cumulet_builder.formats import disk
from cumulet_builder.formats.inputs import Bench, DiskInputs

TOOL_PACKAGES = ("android-sdk-libsparse-utils",)
NAME = "disk.simg"
MAGIC = 0xED26FF3A
BLOCK = 4096


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `disk.simg` for the `disk.img` in the same folder, which is made if it is not there."""
    image = bench.folder / disk.NAME
    if not image.exists():
        disk.write(inputs, bench)
    if bench.formats is None:
        raise ToolError(f"{NAME}: this engine has no tools for it", hint="engine: debian")
    target = bench.folder / NAME
    # The file's own holes stay away; zeros that are content are kept, as a disk may hold something else.
    bench.formats.run(["img2simg", "-s", image, target, str(BLOCK)], folders=[bench.folder], log=bench.log)
    refuse_broken(target, image.stat().st_size)


def refuse_broken(target: Path, size: int) -> None:
    """Raise TargetError unless the header speaks of an image of `size` bytes."""
    with target.open("rb") as stream:
        magic, major, _, _, _, block, blocks, _, _ = struct.unpack("<I4H4I", stream.read(28))
    if (magic, major) != (MAGIC, 1) or block * blocks != size:
        raise TargetError(
            f"{target.name}: {blocks} blocks of {block} bytes, and the disk has {size} bytes",
            hint="this is a fault of the build: report it with the build log",
        )
