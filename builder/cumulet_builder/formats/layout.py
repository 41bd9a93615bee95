"""Where everything lies on a disk: partitions, identifiers, the script for sfdisk. Pure.

    1 MiB | esp | root-a | root-b | data | 1 MiB for the second table

Every identifier comes from a seed, so that the same inputs make the same bytes.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

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

    def partition(self, name: str) -> Partition:
        """The partition with this label."""
        return next(each for each in self.partitions if each.name == name)


def make_uuid(seed: str, what: str) -> str:
    """The identifier of a thing on the disk that `seed` describes."""
    return str(uuid.uuid5(NAMESPACE, f"{seed}/{what}"))


def make_layout(sizes: Disk, architecture: Architecture, seed: str) -> Layout:
    """The layout for these sizes; each is rounded up to whole MiB."""
    root = TYPE_ROOT[architecture]
    parts: Sequence[tuple[str, str, str]] = (
        ("esp", TYPE_ESP, sizes.esp),
        ("root-a", root, sizes.root),
        ("root-b", root, sizes.root),
        ("data", TYPE_DATA, sizes.data),
    )
    start, partitions = ALIGN, []
    for name, kind, text in parts:
        size = -(-parse_size(text) // ALIGN) * ALIGN
        partitions.append(Partition(name, kind, make_uuid(seed, f"partition/{name}").upper(), start, size))
        start += size
    return Layout(make_uuid(seed, "disk").upper(), tuple(partitions), start + ALIGN)


def make_sfdisk_script(layout: Layout) -> str:
    """What `sfdisk` reads to write the partition table."""
    lines = ["label: gpt", f"label-id: {layout.identifier}", "unit: sectors", f"first-lba: {ALIGN // SECTOR}", ""]
    lines += [
        f"start={each.start // SECTOR}, size={each.size // SECTOR}, "
        f'type={each.kind}, uuid={each.identifier}, name="{each.name}"'
        for each in layout.partitions
    ]
    return "\n".join(lines) + "\n"
