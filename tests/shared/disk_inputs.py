"""The parts of a small image, for tests of what is made of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from cumulet_builder.formats.inputs import DiskInputs
from cumulet_builder.recipe.model import Disk

NAMES = ("root.erofs", "root.tar", "vmlinuz", "initrd.img", "dtbs.tar", "loader.efi")


def make_disk_inputs(folder: Path, **more: Any) -> DiskInputs:
    """An image for arm64; each part is a file in `folder` with its name as content. `more`: other values."""
    for name in NAMES:
        (folder / name).write_bytes(name.encode())
    made = DiskInputs(
        image="edge",
        architecture="arm64",
        seed="edge",
        version="6.12",
        epoch=1_700_000_000,
        sizes=Disk(),
        root=folder / "root.erofs",
        root_tree=folder / "root.tar",
        data_tree=None,
        kernel=folder / "vmlinuz",
        initramfs=folder / "initrd.img",
        device_trees=folder / "dtbs.tar",
        boot_loader=folder / "loader.efi",
        command_line=("quiet",),
    )
    return replace(made, **more)
