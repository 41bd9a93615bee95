"""Output formats of an image. One that is added is one file and one line in the table."""

from __future__ import annotations

from cumulet_builder.formats import blockmap, directory, disk, oci, tar
from cumulet_builder.formats.inputs import Bench, DiskInputs, Writer

__all__ = ["FORMATS", "Bench", "DiskInputs", "Writer"]

# In the order of writing: the block map is made of the disk.
FORMATS: dict[str, Writer] = {
    "disk": disk.write,
    "blockmap": blockmap.write,
    "directory": directory.write,
    "tar": tar.write,
    "oci": oci.write,
}
