"""Android's verified boot, switched off: an empty `vbmeta` that says so, for boot loaders that look for one.

256 bytes of header as libavb defines them (all numbers big-endian), no descriptors, no signature. Debian has no
avbtool, which would write the same.
"""

from __future__ import annotations

import struct

from cumulet_builder.formats.inputs import Bench, DiskInputs

TOOL_PACKAGES: tuple[str, ...] = ()
NAME = "vbmeta.img"
MAGIC = b"AVB0"
HEADER = ">4s2I2QI11Q2I48s80x"
# Of the flags: 1 lets hash trees be ignored, 2 everything.
VERIFICATION_DISABLED = 2
# Boot loaders read whole pages of the storage.
PADDED = 4096


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `vbmeta.img`."""
    (bench.folder / NAME).write_bytes(make_vbmeta(VERIFICATION_DISABLED))


def make_vbmeta(flags: int) -> bytes:
    """A vbmeta image with these flags and nothing else."""
    sizes, places = (0, 0), (0,) * 10
    rollback, rollback_location = 0, 0
    header = struct.pack(HEADER, MAGIC, 1, 0, *sizes, 0, *places, rollback, flags, rollback_location, b"cumulet")
    return header.ljust(PADDED, b"\0")
