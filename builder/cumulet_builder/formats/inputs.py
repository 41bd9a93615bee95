"""What every output format is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cumulet_builder.formats.layout import Layout, make_layout, make_place, make_uuid
from cumulet_builder.recipe.board import Boot, Storage
from cumulet_builder.recipe.model import Architecture, Disk, SecureBoot, parse_size
from cumulet_builder.toolbox import Toolbox


@dataclass(frozen=True)
class DiskInputs:
    """The parts of one image.

    `seed` decides every identifier (image name and lock digest); `version` orders the
    boot loader's entries; `epoch` is every time stamp, in seconds. `root` is the erofs
    image, `root_tree` the tar archive it was made of, `data_tree` the first content of
    the data partition (or None), `device_trees` a tar archive, `boot_loader` the EFI
    program of systemd-boot, `command_line` the kernel's words without `root=`, `loader` the
    board's own boot loader (or None). With `secure_boot`, the key and certificate that sign what firmware starts,
    `stub` is the EFI program that the kernel is put behind.
    """

    image: str
    architecture: Architecture
    seed: str
    version: str
    epoch: int
    sizes: Disk
    root: Path
    root_tree: Path
    data_tree: Path | None
    kernel: Path
    initramfs: Path
    device_trees: Path
    boot_loader: Path
    command_line: tuple[str, ...]
    boot: Boot = field(default_factory=Boot)
    storage: Storage = field(default_factory=Storage)
    loader: Path | None = None
    secure_boot: SecureBoot | None = None
    stub: Path | None = None

    @property
    def layout(self) -> Layout:
        """Where the parts lie on the disk."""
        return make_layout(self.sizes, self.architecture, self.seed, make_place(self.boot, self.storage))

    @property
    def loader_offset(self) -> int:
        """Where the board's own boot loader begins on the disk, in bytes."""
        return parse_size(self.boot.loader.offset) if self.boot.loader else 0

    @property
    def environment(self) -> dict[str, str]:
        """What tools need so that they write the same bytes every time."""
        return make_environment(self.epoch)

    def identifier(self, what: str) -> str:
        """A UUID for a file system, from the seed."""
        return make_uuid(self.seed, what)


@dataclass(frozen=True)
class Bench:
    """Where a format works: the tools, the folder it fills, the log, and the tools that only some formats need."""

    toolbox: Toolbox
    folder: Path
    log: IO[str]
    formats: Toolbox | None = None


Writer = Callable[[DiskInputs, Bench], None]


def make_environment(epoch: int) -> dict[str, str]:
    """The environment that pins the clock of mkfs and mtools."""
    return {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
