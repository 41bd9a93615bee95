"""Output formats of an image. One that is added is one file and one line in the table."""

from __future__ import annotations

from collections.abc import Sequence

from cumulet_builder.formats import blockmap, bootimg, directory, disk, oci, sparse, tar, vbmeta
from cumulet_builder.formats.inputs import Bench, DiskInputs, Writer
from cumulet_builder.recipe.board import Boot

__all__ = ["FORMATS", "Bench", "DiskInputs", "Writer", "choose_writers"]

# In the order of writing: the block map is made of the disk.
FORMATS: dict[str, Writer] = {
    "disk": disk.write,
    "blockmap": blockmap.write,
    "directory": directory.write,
    "tar": tar.write,
    "oci": oci.write,
}
# What a board needs beside its disk to start from it; nobody asks for these by name.
ANDROID_FORMATS: dict[str, Writer] = {
    "boot-image": bootimg.write,
    "sparse": sparse.write,
    "vbmeta": vbmeta.write,
}


def choose_writers(boot: Boot, formats: Sequence[str]) -> dict[str, Writer]:
    """The formats that a recipe asks for, and with a disk those that its board starts from, in their order."""
    chosen = {name: writer for name, writer in FORMATS.items() if name in formats}
    if boot.method == "android" and "disk" in chosen:
        chosen |= {name: ANDROID_FORMATS[name] for name in ("boot-image", "sparse")}
        if boot.android is not None and boot.android.disable_verification:
            chosen["vbmeta"] = ANDROID_FORMATS["vbmeta"]
    return chosen
