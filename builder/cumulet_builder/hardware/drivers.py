"""Which driver of a kernel each device of a device tree gets: a module, something built in, or none.

Of modules depmod's aliases tell it. What is built in leaves no such list; but every driver's table of compatibles
stands as texts in the kernel's image, and so do those of the parts that a module's driver looks after itself.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from cumulet_builder.hardware.devicetree import DeviceTree
from cumulet_builder.modules import ModuleIndex
from cumulet_builder.recipe.board import Without

State = Literal["module", "built in", "inside", "without", "left out", "none"]
TEXT = re.compile(rb"(?<=\0)[\x21-\x7e]{3,127}(?=\0)")
OF_ALIAS = re.compile(r"of:N\*T\*C([^*]+?)(C\*)?$")
# A device's name that no other text in a driver is likely to be.
SPEAKING = re.compile(r"[-_.\d]")
PLATFORM_ALIAS = re.compile(r"platform:([^*]+)$")
# Parts of a chip that its driver starts as devices of their own, without a node in the device tree.
CELLS = (
    ("x-powers,axp*", ("axp20x_regulator",)),
    ("rockchip,rk8*", ("rk808_regulator",)),
    ("rohm,bd718*", ("bd718x7_regulator",)),
)
# Nodes that have a compatible and no driver anywhere.
NO_DRIVER = re.compile(r"/cpus/|/reserved-memory/|/thermal-zones/")


@dataclass(frozen=True)
class DriverIndex:
    """The drivers of a kernel.

    `modules`: compatible -> names of modules; `builtin`: compatibles that stand in the kernel's image; `known`: names
    of all modules; `started`: name of a platform device -> names of modules.
    """

    modules: Mapping[str, tuple[str, ...]]
    builtin: frozenset[str]
    known: frozenset[str]
    started: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Driver:
    """What drives one device. `names` are modules; `why` is the board's reason for going without."""

    tree: str
    path: str
    compatibles: tuple[str, ...]
    state: State
    names: tuple[str, ...] = ()
    why: str = ""


def make_driver_index(modules: ModuleIndex, image: bytes, trees: Iterable[DeviceTree]) -> DriverIndex:
    """The index of a kernel with these modules and this image, as far as the device trees ask."""
    wanted = {each for tree in trees for _, compatibles in tree.devices() for each in compatibles}
    found: dict[str, dict[str, None]] = {}
    started: dict[str, dict[str, None]] = {}
    for alias, name in modules.aliases:
        if (match := OF_ALIAS.match(alias)) and match[1] in wanted:
            found.setdefault(match[1], {})[name] = None
        elif (match := PLATFORM_ALIAS.match(alias)) and SPEAKING.search(match[1]):
            started.setdefault(match[1], {})[name] = None
    return DriverIndex(
        {key: tuple(names) for key, names in sorted(found.items())},
        find_texts(image, wanted),
        frozenset(modules.paths),
        {key: tuple(names) for key, names in started.items()},
    )


def make_drivers_text(index: DriverIndex) -> str:
    """The index as JSON, without what modules start."""
    parts = {"modules": index.modules, "builtin": sorted(index.builtin), "known": sorted(index.known)}
    return json.dumps(parts, indent=1) + "\n"


def read_drivers(text: str) -> DriverIndex:
    """The index in a text of `make_drivers_text`."""
    parts = json.loads(text)
    modules = {key: tuple(names) for key, names in parts["modules"].items()}
    return DriverIndex(modules, frozenset(parts["builtin"]), frozenset(parts["known"]))


def find_texts(data: bytes, wanted: Collection[str]) -> frozenset[str]:
    """Which of the wanted texts stand in a binary by themselves, between zeros."""
    there = set(TEXT.findall(data))
    return frozenset(text for text in wanted if text.encode() in there)


def want_modules(trees: Iterable[DeviceTree], index: DriverIndex, without: Sequence[Without]) -> list[str]:
    """The modules that the enabled devices ask for, but for those that the board goes without."""
    found: dict[str, None] = {}
    for tree in trees:
        for _, compatibles in tree.devices():
            if find_reason(compatibles, without) is None:
                found |= dict.fromkeys(_modules_of(compatibles, index))
                found |= dict.fromkeys(cells_of(compatibles, index))
    return [name for name in found if want_module(name, without)]


def want_module(name: str, without: Sequence[Without]) -> bool:
    """Whether the board does not go without a module."""
    return not any(fnmatchcase(name, glob.replace("-", "_")) for each in without for glob in each.modules)


def want_started(modules: Iterable[bytes], index: DriverIndex) -> list[str]:
    """Modules that drive what other modules start: the names of their devices stand in those as texts."""
    return sorted(
        {name for data in modules for text in find_texts(data, index.started) for name in index.started[text]}
    )


def cells_of(compatibles: Iterable[str], index: DriverIndex) -> tuple[str, ...]:
    """The modules of parts that a chip's driver starts."""
    every = list(compatibles)
    return tuple(
        name
        for glob, names in CELLS
        if any(fnmatchcase(each, glob) for each in every)
        for name in names
        if name in index.known
    )


def find_drivers(
    tree: DeviceTree, index: DriverIndex, shipped: Mapping[str, bytes], without: Sequence[Without]
) -> Iterator[Driver]:
    """What drives each enabled device of a tree, given the modules that are shipped: name -> content."""
    for path, compatibles in tree.devices():
        if not NO_DRIVER.match(path):
            yield _judge(tree.name, path, compatibles, _Judge(index, shipped, without))


@dataclass(frozen=True)
class _Judge:
    index: DriverIndex
    shipped: Mapping[str, bytes]
    without: Sequence[Without]


def _judge(tree: str, path: str, compatibles: tuple[str, ...], judge: _Judge) -> Driver:
    names = tuple(_modules_of(compatibles, judge.index))
    there = tuple(name for name in names if name in judge.shipped)
    reason = find_reason(compatibles, judge.without)
    if there:
        return Driver(tree, path, compatibles, "module", there)
    if reason is not None:
        return Driver(tree, path, compatibles, "without", (), reason)
    if names:
        return Driver(tree, path, compatibles, "left out", names)
    if any(each in judge.index.builtin for each in compatibles):
        return Driver(tree, path, compatibles, "built in")
    holders = tuple(sorted(name for name, data in judge.shipped.items() if find_inside(data, compatibles)))
    return Driver(tree, path, compatibles, "inside" if holders else "none", holders)


def find_inside(data: bytes, texts: Iterable[str]) -> bool:
    """Whether one of the texts stands in a binary, ended by a zero."""
    return any(text.encode() + b"\0" in data for text in texts)


def find_reason(compatibles: Iterable[str], without: Sequence[Without]) -> str | None:
    """Why a board goes without the driver of a device, or None if it does not."""
    every = list(compatibles)
    for each in without:
        if any(fnmatchcase(compatible, glob) for glob in each.drivers for compatible in every):
            return " ".join(each.why.split())
    return None


def _modules_of(compatibles: Iterable[str], index: DriverIndex) -> dict[str, None]:
    found: dict[str, None] = {}
    for each in compatibles:
        found |= dict.fromkeys(index.modules.get(each, ()))
    return found
