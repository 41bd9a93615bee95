"""What is to be flashed: files of a published image, and where and how its board wants them."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_file

Method = Literal["fastboot", "uuu", "block"]
SLOTS = ("a", "b")
SPARSE_MAGIC = 0xED26FF3A
SPARSE_HEADER = struct.Struct("<IHHHHIIII")
SUMS = "sha256sums"
DISK, BLOCK_MAP = "disk.img", "disk.bmap"


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file to write. `size` is what it takes on the device, `stored` its own size; a sparse image unpacks itself.

    `sha256` is the digest that was published with it.
    """

    path: Path
    size: int
    stored: int
    sha256: str
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class PartitionWrite:
    """A file for a partition; `slots` is both where the partition is there once per slot, under the name without it."""

    file: ImageFile
    partition: str
    slots: Literal["none", "both"] = "none"

    @property
    def partitions(self) -> tuple[str, ...]:
        """The names on the device."""
        return tuple(f"{self.partition}_{slot}" for slot in SLOTS) if self.slots == "both" else (self.partition,)


@dataclass(frozen=True, slots=True)
class FlashTarget:
    """What an image asks of whoever flashes it.

    `products`: what the boot loader may call itself; `unlock`: how people unlock it. `erase`: partitions that must be
    empty. `writes` are in order. `disk` is a whole disk, with its block map, for boards that take one. `script` are
    uuu's own lines, where {disk} and {loader} stand for the files. `notes` are for people, at the end.
    """

    image: str
    board: str
    method: Method
    products: tuple[str, ...] = ()
    unlock: str = ""
    erase: tuple[str, ...] = ()
    writes: tuple[PartitionWrite, ...] = ()
    disk: ImageFile | None = None
    block_map: Path | None = None
    loader: Path | None = None
    script: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[ImageFile, ...]:
        """Every published file that is written."""
        return (*(each.file for each in self.writes), *((self.disk,) if self.disk else ()))


def load_target(folder: Path) -> FlashTarget:
    """What a published image asks for, by its board. Raises UsageError for a board that is not flashed."""
    try:
        board = json.loads((folder / "board.json").read_text())
        image = json.loads((folder / "image.json").read_text())["image"]
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder}: not a published image", hint="cumulet build RECIPE") from error
    name, flash = str(board.get("board")), board.get("flash")
    if not flash:
        raise UsageError(
            f"{image}: the board {name!r} says nothing about flashing",
            hint="cumulet boot plays it; or add flash: to it",
        )
    disk = load_file(folder, DISK) if flash["method"] != "fastboot" else None
    named = ((board.get("boot") or {}).get("loader") or {}).get("file")
    return FlashTarget(
        image=image,
        board=name,
        method=flash["method"],
        products=tuple(flash.get("products", ())),
        unlock=flash.get("unlock", ""),
        erase=tuple(flash.get("erase", ())),
        writes=tuple(
            PartitionWrite(load_file(folder, each["file"]), each["partition"], each.get("slots", "none"))
            for each in flash.get("writes", ())
        ),
        disk=disk,
        block_map=folder / BLOCK_MAP if disk and (folder / BLOCK_MAP).is_file() else None,
        loader=Path(named) if named else None,
        script=tuple(flash.get("script", ())),
        notes=tuple(flash.get("notes", ())),
    )


def load_file(folder: Path, name: str) -> ImageFile:
    """A file of a published folder, with the digest it was published with. Raises UsageError if it is not there."""
    path = folder / name
    digest = load_sums(folder).get(name)
    if digest is None or not path.is_file():
        raise UsageError(f"{path}: not a file of a published image", hint="cumulet build RECIPE")
    stored = path.stat().st_size
    unpacked = probe_sparse_size(path)
    return ImageFile(path, stored if unpacked is None else unpacked, stored, digest, unpacked is not None)


def load_sums(folder: Path) -> dict[str, str]:
    """File name -> SHA-256 of everything that was published."""
    try:
        lines = (folder / SUMS).read_text().splitlines()
    except OSError:
        return {}
    return {name: digest for digest, _, name in (line.partition("  ") for line in lines)}


def probe_sparse_size(path: Path) -> int | None:
    """The unpacked size of an Android sparse image, or None for any other file."""
    with path.open("rb") as stream:
        head = stream.read(SPARSE_HEADER.size)
    if len(head) < SPARSE_HEADER.size:
        return None
    magic, *_, block, blocks, _, _ = SPARSE_HEADER.unpack(head)
    return block * blocks if magic == SPARSE_MAGIC else None


def check_files(target: FlashTarget) -> None:
    """Raise UsageError if a file is not the one that was published: half copied, or changed."""
    for each in dict.fromkeys(target.files):
        if sha256_file(each.path) != each.sha256:
            raise UsageError(
                f"{each.path}: not what was published: its SHA-256 is not the one in {SUMS}",
                hint="build or copy the image again",
            )
