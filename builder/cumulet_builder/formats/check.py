"""The artefact linter: reads back what was written and says what would not boot.

It asks other programs than those that wrote, where there are any, and the bytes themselves.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import Problem
from cumulet_builder.formats import root
from cumulet_builder.formats.layout import SECTOR, TYPE_DATA, TYPE_ESP
from cumulet_builder.toolbox import Toolbox

NAMES = ("esp", "root-a", "root-b", "data")
LOADERS = ("/EFI/BOOT/BOOTAA64.EFI", "/EFI/BOOT/BOOTX64.EFI")
EXT4_MAGIC = 0xEF53
NEEDED_KEYS = ("linux", "initrd", "options")


@dataclass(frozen=True)
class Span:
    """A partition as the table says it: bytes, and its type in capitals."""

    start: int
    size: int
    kind: str


def problems_of_disk(image: Path, toolbox: Toolbox) -> list[Problem]:
    """What is wrong with a disk image; empty if nothing is."""
    dump = toolbox.run(["sfdisk", "--json", image], folders=[image.parent], check=False)
    if dump.code != 0:
        return [_problem(image, f"no partition table: {dump.err.strip() or dump.out.strip()}")]
    table = make_table(dump.out)
    problems = [_problem(image, text) for text in problems_of_table(table, image.stat().st_size)]
    if problems:
        return problems
    found = [
        *problems_of_root(image, table["root-a"]),
        *problems_of_data(image, table["data"]),
        *problems_of_esp(probe_esp(image, table["esp"].start, toolbox), tuple(table)),
    ]
    check = ["e2fsck", "-n", "-f", f"{image}?offset={table['data'].start}"]
    if toolbox.run(check, folders=[image.parent], check=False).code != 0:
        found.append("partition data: its file system has errors")
    return [_problem(image, text) for text in found]


def make_table(text: str) -> dict[str, Span]:
    """Partition name -> where it is, from the output of `sfdisk --json`."""
    document = json.loads(text)["partitiontable"]
    size = int(document.get("sectorsize", SECTOR))
    return {
        each.get("name", each["node"]): Span(each["start"] * size, each["size"] * size, each["type"].upper())
        for each in document.get("partitions", [])
    }


def problems_of_table(table: Mapping[str, Span], size: int) -> list[str]:
    """What is wrong with the partitions on a disk of `size` bytes."""
    problems = [f"no partition named {name}" for name in NAMES if name not in table]
    for name, kind in (("esp", TYPE_ESP), ("data", TYPE_DATA)):
        if name in table and table[name].kind != kind:
            problems.append(f"partition {name} has type {table[name].kind}, not {kind}")
    end = 0
    for name, span in sorted(table.items(), key=lambda item: item[1].start):
        if span.start < end:
            problems.append(f"partition {name} begins inside the one before it")
        end = span.start + span.size
    if end > size:
        problems.append(f"the partitions end at byte {end}, after the end of the image at {size}")
    return problems


def problems_of_root(image: Path, span: Span) -> list[str]:
    """What is wrong with the root file system: its magic number, its size."""
    head = _read(image, span.start + root.MAGIC_OFFSET, 128)
    if struct.unpack_from("<I", head)[0] != root.MAGIC:
        return ["partition root-a holds no erofs file system"]
    bits, blocks = head[12], struct.unpack_from("<I", head, 36)[0]
    if blocks << bits > span.size:
        return [f"partition root-a: the file system has {blocks << bits} bytes, the partition {span.size}"]
    return []


def problems_of_data(image: Path, span: Span) -> list[str]:
    """What is wrong with the data file system: its magic number, its label."""
    head = _read(image, span.start + 1024, 256)
    if struct.unpack_from("<H", head, 56)[0] != EXT4_MAGIC:
        return ["partition data holds no ext4 file system"]
    label = head[120:136].rstrip(b"\0").decode(errors="replace")
    return [] if label == "data" else [f"partition data has the label {label!r}, not 'data'"]


def probe_esp(image: Path, start: int, toolbox: Toolbox) -> dict[str, str]:
    """Path -> text of the boot entries; path -> "" of every other file of the partition."""
    place, env = f"{image}@@{start}", {"MTOOLS_SKIP_CHECK": "1"}
    listing = toolbox.run(["mdir", "-b", "-/", "-i", place, "::"], folders=[image.parent], env=env, check=False)
    files = {
        line.removeprefix("::"): "" for line in listing.out.splitlines() if line.startswith("::") and line[-1] != "/"
    }
    for path in [path for path in files if path.startswith("/loader/entries/")]:
        files[path] = toolbox.run(["mtype", "-i", place, f"::{path}"], folders=[image.parent], env=env).out
    return files


def problems_of_esp(files: Mapping[str, str], partitions: Sequence[str]) -> list[str]:
    """What is wrong with the boot partition's files, given the names of the disk's partitions."""
    problems = []
    if not any(loader in files for loader in LOADERS):
        problems.append(f"partition esp: none of {', '.join(LOADERS)} is there")
    entries = {path: text for path, text in files.items() if path.startswith("/loader/entries/")}
    if not entries:
        problems.append("partition esp: no boot entry in /loader/entries")
    for path, text in entries.items():
        problems += [f"partition esp: {path}: {problem}" for problem in problems_of_entry(text, files, partitions)]
    return problems


def problems_of_entry(text: str, files: Mapping[str, str], partitions: Sequence[str]) -> list[str]:
    """What is wrong with one boot entry."""
    pairs = [line.split(None, 1) for line in text.splitlines() if line.strip()]
    values = {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}
    problems = [f"no line '{key}'" for key in NEEDED_KEYS if key not in values]
    problems += [
        f"{key} names {values[key]}, which is not there"
        for key in ("linux", "initrd", "devicetree")
        if key in values and values[key] not in files
    ]
    roots = [word.removeprefix("root=") for word in values.get("options", "").split() if word.startswith("root=")]
    if len(roots) != 1:
        problems.append(f"{len(roots)} times root= in its options")
    problems += [
        f"root={name}, but no partition has this label"
        for name in roots
        if name.removeprefix("PARTLABEL=") not in partitions
    ]
    return problems


def _problem(image: Path, text: str) -> Problem:
    return Problem(str(image), 0, 0, text, "this is a fault of the build: report it with the build log")


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size).ljust(size, b"\0")
