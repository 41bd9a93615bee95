"""Android's boot image, header versions 0 and 2: kernel, initramfs, device tree, command line in one file.

Every part begins on a page. The field `id` is the SHA-1 of the parts and their sizes, as mkbootimg writes it;
boot loaders do not look at it.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass

MAGIC = b"ANDROID!"
COMMAND_LINE, MORE_COMMAND_LINE = 512, 1024
HEADER_SIZE_V2 = 1660


@dataclass(frozen=True)
class Layout:
    """Where a boot loader puts the parts in memory. Offsets count from `base`."""

    base: int
    kernel: int
    ramdisk: int
    tags: int
    page: int = 4096
    version: int = 0
    second: int = 0x00F00000
    device_tree: int = 0


@dataclass(frozen=True)
class Parts:
    """The content of a boot image. With header version 0 the device tree is appended to the kernel."""

    kernel: bytes
    ramdisk: bytes
    device_tree: bytes
    command_line: str


def make_boot_image(parts: Parts, layout: Layout) -> bytes:
    """The whole file. Raises ValueError for parts that a boot loader could not take."""
    if layout.version not in (0, 2):
        raise ValueError(f"header version {layout.version}: only 0 and 2 can be written")
    line = parts.command_line.encode()
    room = COMMAND_LINE + MORE_COMMAND_LINE - 1
    if len(line) > room:
        raise ValueError(f"the command line has {len(line)} bytes, a boot image holds {room}")
    kernel = parts.kernel if layout.version else parts.kernel + parts.device_tree
    window = layout.ramdisk - layout.kernel
    if len(kernel) > window > 0:
        raise ValueError(f"the kernel has {len(kernel)} bytes, and only {window} lie before the initramfs")
    chunks = [kernel, parts.ramdisk, b""] + ([b"", parts.device_tree] if layout.version == 2 else [])
    header = _make_header(chunks, line, layout)
    padded = [chunk + b"\0" * (-len(chunk) % layout.page) for chunk in (header, *chunks)]
    return b"".join(padded)


def _make_header(chunks: list[bytes], line: bytes, layout: Layout) -> bytes:
    kernel, ramdisk = chunks[0], chunks[1]
    header = MAGIC + struct.pack(
        "<10I",
        len(kernel), layout.base + layout.kernel,
        len(ramdisk), layout.base + layout.ramdisk,
        0, layout.base + layout.second,
        layout.base + layout.tags, layout.page, layout.version, 0,
    )  # fmt: skip
    header += b"\0" * 16
    header += line[: COMMAND_LINE - 1].ljust(COMMAND_LINE, b"\0")
    header += _make_id(chunks).ljust(32, b"\0")
    header += line[COMMAND_LINE - 1 :].ljust(MORE_COMMAND_LINE, b"\0")
    if layout.version == 2:
        device_tree = chunks[4]
        # No separate overlay (size 0, offset 0), then this header's own size.
        header += struct.pack("<IQI", 0, 0, HEADER_SIZE_V2)
        header += struct.pack("<IQ", len(device_tree), layout.base + layout.device_tree)
    return header


def _make_id(chunks: list[bytes]) -> bytes:
    digest = hashlib.sha1()  # noqa: S324 - the format's own
    for chunk in chunks:
        digest.update(chunk)
        digest.update(struct.pack("<I", len(chunk)))
    return digest.digest()
