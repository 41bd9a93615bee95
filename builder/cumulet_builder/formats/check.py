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
EXTLINUX = "/extlinux/extlinux.conf"
EXT4_MAGIC = 0xEF53
# What chips look for at the start of a boot loader: Allwinner, Rockchip (scrambled, and newer), NXP.
MARKS = (
    (4, b"eGON.BT0"),
    (0, bytes.fromhex("3b8cdcfcbe9f9d51")),
    (0, b"RKNS"),
    (0, bytes.fromhex("d1002040")),
    (0, bytes.fromhex("d1002041")),
)
NEEDED_KEYS = ("linux", "initrd", "options")


@dataclass(frozen=True)
class Span:
    """A partition as the table says it: bytes, and its type in capitals."""

    start: int
    size: int
    kind: str


@dataclass(frozen=True)
class Loader:
    """A boot loader that must stand on the disk, and the byte where it begins."""

    content: bytes
    offset: int


@dataclass(frozen=True)
class Wish:
    """What a disk must be: the names of its partitions, the bytes of its sectors, the board's own boot loader."""

    names: tuple[str, ...] = NAMES
    sector: int = SECTOR
    loader: Loader | None = None


def problems_of_disk(image: Path, toolbox: Toolbox, wish: Wish = Wish()) -> list[Problem]:
    """What is wrong with a disk image; empty if nothing is."""
    words: list[str | Path] = ["sfdisk", *sector_option(wish.sector), "--json", image]
    dump = toolbox.run(words, folders=[image.parent], check=False)
    if dump.code != 0:
        return [_problem(image, f"no partition table: {dump.err.strip() or dump.out.strip()}")]
    table = make_table(dump.out)
    problems = [_problem(image, text) for text in problems_of_table(table, image.stat().st_size, wish.names)]
    if problems:
        return problems
    found = [
        *problems_of_root(image, table["root-a"]),
        *problems_of_data(image, table["data"]),
        *(problems_of_esp(probe_esp(image, table["esp"].start, toolbox), tuple(table)) if "esp" in wish.names else ()),
        *(problems_of_loader(image, wish.loader) if wish.loader else ()),
    ]
    check = ["e2fsck", "-n", "-f", f"{image}?offset={table['data'].start}"]
    if toolbox.run(check, folders=[image.parent], check=False).code != 0:
        found.append("partition data: its file system has errors")
    return [_problem(image, text) for text in found]


def sector_option(sector: int) -> tuple[str, ...]:
    """What tells sfdisk the size of the sectors, if it would take another one."""
    return () if sector == SECTOR else ("--sector-size", str(sector))


def make_table(text: str) -> dict[str, Span]:
    """Partition name -> where it is, from the output of `sfdisk --json`."""
    document = json.loads(text)["partitiontable"]
    size = int(document.get("sectorsize", SECTOR))
    return {
        each.get("name", each["node"]): Span(each["start"] * size, each["size"] * size, each["type"].upper())
        for each in document.get("partitions", [])
    }


def problems_of_table(table: Mapping[str, Span], size: int, names: Sequence[str] = NAMES) -> list[str]:
    """What is wrong with the partitions on a disk of `size` bytes."""
    problems = [f"no partition named {name}" for name in names if name not in table]
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


def problems_of_loader(image: Path, loader: Loader) -> list[str]:
    """What is wrong with the boot loader on the disk: its content, and the mark that its chip looks for."""
    there = _read(image, loader.offset, len(loader.content))
    if there != loader.content:
        return [f"the boot loader is not at byte {loader.offset}"]
    if not any(there[place:].startswith(mark) for place, mark in MARKS):
        return [f"what stands at byte {loader.offset} is no boot loader of Allwinner's, Rockchip's or NXP's chips"]
    return []


def probe_esp(image: Path, start: int, toolbox: Toolbox) -> dict[str, str]:
    """Path -> text of the boot entries; path -> "" of every other file of the partition."""
    place, env = f"{image}@@{start}", {"MTOOLS_SKIP_CHECK": "1"}
    listing = toolbox.run(["mdir", "-b", "-/", "-i", place, "::"], folders=[image.parent], env=env, check=False)
    files = {
        line.removeprefix("::"): "" for line in listing.out.splitlines() if line.startswith("::") and line[-1] != "/"
    }
    for path in [path for path in files if path.startswith("/loader/entries/") or path == EXTLINUX]:
        files[path] = toolbox.run(["mtype", "-i", place, f"::{path}"], folders=[image.parent], env=env).out
    return files


def problems_of_esp(files: Mapping[str, str], partitions: Sequence[str]) -> list[str]:
    """What is wrong with the boot partition's files, given the names of the disk's partitions."""
    if EXTLINUX in files:
        return [f"partition esp: {EXTLINUX}: {each}" for each in problems_of_menu(files[EXTLINUX], files, partitions)]
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
    values = _read_pairs(text.splitlines())
    if "efi" in values:
        # Signed: the command line is inside.
        return [] if values["efi"] in files else [f"efi names {values['efi']}, which is not there"]
    problems = [f"no line '{key}'" for key in NEEDED_KEYS if key not in values]
    problems += [
        f"{key} names {values[key]}, which is not there"
        for key in ("linux", "initrd", "devicetree")
        if key in values and values[key] not in files
    ]
    return problems + problems_of_root_word(values.get("options", ""), partitions)


def problems_of_menu(text: str, files: Mapping[str, str], partitions: Sequence[str]) -> list[str]:
    """What is wrong with extlinux.conf: each entry's files must be there, its root a partition of this disk."""
    entries: dict[str, list[str]] = {}
    name = ""
    top: list[str] = []
    for line in text.splitlines():
        words = line.split(None, 1)
        if words[:1] == ["label"]:
            name = words[-1].strip()
            entries[name] = []
        elif words and not words[0].startswith("#"):
            (entries[name] if name else top).append(line)
    default = _read_pairs(top).get("default", "")
    problems = [] if default in entries else [f"default {default!r} is no entry"]
    folders = {parent for path in files for parent in map(str, Path(path).parents)}
    for label, lines in entries.items():
        values = _read_pairs(lines)
        found = [f"no line '{key}'" for key in ("kernel", "initrd", "append") if key not in values]
        found += [
            f"{key} names {values[key]}, which is not there"
            for key in ("kernel", "initrd", "fdt", "fdtdir")
            if key in values and values[key] not in (folders if key == "fdtdir" else files)
        ]
        found += problems_of_root_word(values.get("append", ""), partitions)
        problems += [f"{label}: {each}" for each in found]
    return problems


def problems_of_root_word(options: str, partitions: Sequence[str]) -> list[str]:
    """What is wrong with the root that a kernel command line names."""
    roots = [word.removeprefix("root=") for word in options.split() if word.startswith("root=")]
    problems = [] if len(roots) == 1 else [f"{len(roots)} times root= in its options"]
    return problems + [
        f"root={name}, but no partition has this label"
        for name in roots
        if name.removeprefix("PARTLABEL=") not in partitions
    ]


def _read_pairs(lines: Sequence[str]) -> dict[str, str]:
    pairs = [line.split(None, 1) for line in lines if line.strip()]
    return {pair[0]: pair[1].strip() for pair in pairs if len(pair) == 2}


def _problem(image: Path, text: str) -> Problem:
    return Problem(str(image), 0, 0, text, "this is a fault of the build: report it with the build log")


def _read(path: Path, offset: int, size: int) -> bytes:
    with path.open("rb") as stream:
        stream.seek(offset)
        return stream.read(size).ljust(size, b"\0")
