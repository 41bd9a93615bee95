"""Where everything lies on a disk: partitions, identifiers, the script for sfdisk. Pure.

    1 MiB | esp | root-a | root-b | data | 1 MiB for the second table

A board may begin later, to leave room for its boot loader, and a phone's disk has no
esp: its kernel is in partitions of the phone. Every identifier comes from a seed, so that
the same inputs make the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from cumulet_builder.recipe.board import Boot, Storage
from cumulet_builder.recipe.model import Architecture, Disk, parse_size

SECTOR = 512
ALIGN = 1 << 20
TYPE_ESP = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
TYPE_DATA = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
TYPE_ROOT: dict[Architecture, str] = {
    "arm64": "B921B045-1DF0-41C3-AF44-4C6F280D3FAE",
    "amd64": "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
}
SLOTS = ("root-a", "root-b")
NAMESPACE = uuid.UUID("6f2c1d3a-5b0e-4a57-9f0a-3c6b8f4f7a11")


@dataclass(frozen=True)
class Place:
    """What a board wants of a disk: bytes of its sectors, where the first partition begins, whether there is an
    esp, and whether that one is marked as the one to boot from."""

    sector: int = SECTOR
    start: int = ALIGN
    esp: bool = True
    bootable: bool = False


@dataclass(frozen=True)
class Partition:
    """One partition; `start` and `size` in bytes."""

    name: str
    kind: str
    identifier: str
    start: int
    size: int


@dataclass(frozen=True)
class Layout:
    """A whole disk; `size` in bytes."""

    identifier: str
    partitions: tuple[Partition, ...]
    size: int
    place: Place = Place()

    def partition(self, name: str) -> Partition:
        """The partition with this label."""
        return next(each for each in self.partitions if each.name == name)


def make_uuid(seed: str, what: str) -> str:
    """The identifier of a thing on the disk that `seed` describes."""
    return str(uuid.uuid5(NAMESPACE, f"{seed}/{what}"))


def make_place(boot: Boot, storage: Storage) -> Place:
    """What a board that boots so, from such storage, wants of a disk."""
    extlinux = boot.method == "extlinux"
    return Place(storage.sector_size, parse_size(storage.start), boot.method != "android", extlinux)


def make_layout(sizes: Disk, architecture: Architecture, seed: str, place: Place = Place()) -> Layout:
    """The layout for these sizes; each is rounded up to whole MiB."""
    root = TYPE_ROOT[architecture]
    parts: Sequence[tuple[str, str, str]] = (
        *((("esp", TYPE_ESP, sizes.esp),) if place.esp else ()),
        ("root-a", root, sizes.root),
        ("root-b", root, sizes.root),
        ("data", TYPE_DATA, sizes.data),
    )
    start, partitions = place.start, []
    for name, kind, text in parts:
        size = -(-parse_size(text) // ALIGN) * ALIGN
        partitions.append(Partition(name, kind, make_uuid(seed, f"partition/{name}").upper(), start, size))
        start += size
    return Layout(make_uuid(seed, "disk").upper(), tuple(partitions), start + ALIGN, place)


def make_sfdisk_script(layout: Layout) -> str:
    """What `sfdisk` reads to write the partition table."""
    sector, place = layout.place.sector, layout.place
    lines = ["label: gpt", f"label-id: {layout.identifier}", "unit: sectors", f"first-lba: {place.start // sector}", ""]
    for each in layout.partitions:
        marks = ", attrs=LegacyBIOSBootable" if place.bootable and each.name == "esp" else ""
        lines.append(
            f"start={each.start // sector}, size={each.size // sector}, "
            f'type={each.kind}, uuid={each.identifier}, name="{each.name}"{marks}'
        )
    return "\n".join(lines) + "\n"
