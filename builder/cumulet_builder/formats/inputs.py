"""What every output format is made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cumulet_builder.formats.layout import Layout, make_layout, make_uuid
from cumulet_builder.recipe.model import Architecture, Disk
from cumulet_builder.toolbox import Toolbox


@dataclass(frozen=True)
class DiskInputs:
    """The parts of one image.

    `seed` decides every identifier (image name and lock digest); `version` orders the
    boot loader's entries; `epoch` is every time stamp, in seconds. `root` is the erofs
    image, `root_tree` the tar archive it was made of, `data_tree` the first content of
    the data partition (or None), `device_trees` a tar archive, `boot_loader` the EFI
    program of systemd-boot, `command_line` the kernel's words without `root=`.
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

    @property
    def layout(self) -> Layout:
        """Where the parts lie on the disk."""
        return make_layout(self.sizes, self.architecture, self.seed)

    @property
    def environment(self) -> dict[str, str]:
        """What tools need so that they write the same bytes every time."""
        return make_environment(self.epoch)

    def identifier(self, what: str) -> str:
        """A UUID for a file system, from the seed."""
        return make_uuid(self.seed, what)


@dataclass(frozen=True)
class Bench:
    """Where a format works: the tools, the folder it fills, the log."""

    toolbox: Toolbox
    folder: Path
    log: IO[str]


Writer = Callable[[DiskInputs, Bench], None]


def make_environment(epoch: int) -> dict[str, str]:
    """The environment that pins the clock of mkfs and mtools."""
    return {"SOURCE_DATE_EPOCH": str(epoch), "MTOOLS_SKIP_CHECK": "1"}
