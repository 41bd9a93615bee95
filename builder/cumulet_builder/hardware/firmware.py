"""Every firmware file that will be asked for, and for each: in the image, taken from the board itself, or missing.

A device tree names files for certain. A module names all that any of the chips it drives may want: of those the
board has one or none, so that they are told and not required.
"""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from cumulet_builder.hardware.devicetree import DeviceTree, strings
from cumulet_builder.recipe.board import Without

State = Literal["in the image", "from the board", "without", "missing"]
START = "/usr/lib/firmware/"
PACKED = ("", ".xz", ".zst")
# Drivers that look for the name of a device tree in a folder of theirs.
FOLDERS = (("qcom,wcn*-bt", "qca/"),)


@dataclass(frozen=True)
class Wanted:
    """A firmware file, below /usr/lib/firmware, and who asks: a node of the device tree, or a module."""

    name: str
    asker: str
    certain: bool


@dataclass(frozen=True)
class Firmware:
    """The answer for one file. `source`: the package, what takes it from the board, or why the board goes without."""

    wanted: Wanted
    state: State
    source: str = ""


@dataclass(frozen=True)
class Supply:
    """Where firmware comes from. `owners`: absolute path in the image -> package; `juicer`: files that the extractor
    takes from the board's own partitions."""

    owners: Mapping[str, str]
    juicer: frozenset[str]
    without: Sequence[Without]


def find_wanted(tree: DeviceTree) -> Iterator[Wanted]:
    """The files that enabled nodes name, also such that are no devices themselves."""
    for path, properties in tree.nodes.items():
        if not tree.enabled(path):
            continue
        for key, value in properties.items():
            if key.endswith("firmware-name"):
                folder = _folder_of(tree.compatibles(path))
                yield from (Wanted(folder + name, path, True) for name in strings(value))


def find_possible(wanted: Mapping[str, Iterable[str]]) -> Iterator[Wanted]:
    """The files that modules may ask for."""
    for module, names in wanted.items():
        yield from (Wanted(name, module, False) for name in names)


def judge(wanted: Iterable[Wanted], supply: Supply) -> list[Firmware]:
    """The answer for each file once, in the order of their names; what a device tree asks for goes first."""
    found: dict[str, Firmware] = {}
    for each in wanted:
        if each.name not in found or each.certain > found[each.name].wanted.certain:
            found[each.name] = _judge(each, supply)
    return sorted(found.values(), key=lambda each: (not each.wanted.certain, each.wanted.name))


def _judge(wanted: Wanted, supply: Supply) -> Firmware:
    package = next(
        (package for path, package in supply.owners.items() if _is_file(path.removeprefix(START), wanted.name)), None
    )
    if package is not None:
        return Firmware(wanted, "in the image", package)
    if wanted.name in supply.juicer:
        return Firmware(wanted, "from the board", "droid-juicer")
    for each in supply.without:
        if any(fnmatchcase(wanted.name, glob) for glob in each.firmware):
            return Firmware(wanted, "without", " ".join(each.why.split()))
    return Firmware(wanted, "missing")


def _is_file(path: str, name: str) -> bool:
    if "*" not in name:
        return path.startswith(name) and path[len(name) :] in PACKED
    return any(fnmatchcase(path, name + end) for end in PACKED)


def read_juicer(text: str) -> frozenset[str]:
    """The files that droid-juicer takes from a board, from its own settings for it."""
    groups = tomllib.loads(text).get("juicer", {}).get("firmware", [])
    return frozenset(
        f"{group['destination']}/{_taken(file.get('rename', file['name']))}"
        for group in groups
        for file in group["files"]
    )


def _taken(name: str) -> str:
    # Split files are joined on the way.
    return f"{name.removesuffix('.mdt')}.mbn" if name.endswith(".mdt") else name


def _folder_of(compatibles: Collection[str]) -> str:
    return next((folder for glob, folder in FOLDERS if any(fnmatchcase(each, glob) for each in compatibles)), "")
