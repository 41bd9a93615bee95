"""The root file system: a read-only erofs image made of a tar archive."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

from cumulet.core.errors import ToolError
from cumulet_builder.toolbox import Toolbox

TOOL_PACKAGES = ("erofs-utils",)
Compression = Literal["zstd", "lz4hc", "lz4", "none"]
# Measured in docs/adr/0004-root-compression.md: 64 KiB is where size stops to fall and reading is not yet slower.
CLUSTER = 65536
OPTIONS: dict[Compression, tuple[str, ...]] = {
    "zstd": ("-zzstd,level=3", f"-C{CLUSTER}", "-Eztailpacking"),
    "lz4hc": ("-zlz4hc,level=5", f"-C{CLUSTER}", "-Eztailpacking"),
    "lz4": ("-zlz4", f"-C{CLUSTER}", "-Eztailpacking"),
    "none": (),
}
MAGIC_OFFSET = 1024
MAGIC = 0xE0F5E1E2


@dataclass(frozen=True)
class RootOptions:
    """How the root is packed; `identifier` is its UUID, `epoch` the time stamp of every file, in seconds."""

    compression: Compression
    identifier: str
    epoch: int


def make_arguments(tar: Path, target: Path, options: RootOptions) -> list[str]:
    """The command that packs the archive `tar` into the image `target`."""
    return [
        "mkfs.erofs", "--quiet", "--tar=f", f"-T{options.epoch}", "-U", options.identifier,
        *OPTIONS[options.compression], str(target), str(tar),
    ]  # fmt: skip


def write_root(tar: Path, target: Path, options: RootOptions, toolbox: Toolbox, log: IO[str]) -> None:
    """Write the image. Raises ToolError if the disk has no room for it."""
    check_room(tar, target.parent)
    toolbox.run(make_arguments(tar, target, options), folders=[target.parent, tar.parent], log=log)


def check_room(tar: Path, folder: Path) -> None:
    """Raise ToolError unless `folder` has room for packing the archive."""
    # mkfs.erofs keeps a plain copy of everything beside the image. When its disk is full, its threads wait for ever.
    need, free = 2 * tar.stat().st_size, shutil.disk_usage(folder).free
    if free < need:
        text = f"no space left on this disk: packing takes up to {need >> 20} MiB, and {free >> 20} MiB are free"
        raise ToolError(f"{folder}: {text}", hint="free some space, or name another folder: --cache")
