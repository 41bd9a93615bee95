"""The verdict on a board's hardware: every device's driver, every firmware file, the way to the root. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

from cumulet.core.errors import Problem
from cumulet_builder.hardware.devicetree import DeviceTree
from cumulet_builder.hardware.drivers import Driver, DriverIndex, find_drivers
from cumulet_builder.hardware.firmware import Firmware, Supply, Wanted, find_possible, find_wanted, judge
from cumulet_builder.hardware.root import Ground, Need, find_controllers, find_needs
from cumulet_builder.recipe.board import Board


@dataclass(frozen=True)
class Image:
    """What an image has. `modules`: name -> content of those in the root; `chains`: module -> all it uses itself;
    `initramfs`: names of modules in the initramfs; `firmware_wanted`: module -> files it may ask for."""

    index: DriverIndex
    modules: Mapping[str, bytes]
    chains: Mapping[str, Collection[str]]
    initramfs: Collection[str]
    firmware_wanted: Mapping[str, Sequence[str]]
    supply: Supply


@dataclass(frozen=True)
class Verdict:
    """Everything that was looked at."""

    drivers: tuple[Driver, ...]
    firmware: tuple[Firmware, ...]
    needs: tuple[Need, ...]


def judge_board(board: Board, trees: Sequence[DeviceTree], image: Image) -> Verdict:
    """Look at every device tree of a board. The same device of two trees is told once."""
    ground = Ground(image.index, image.chains, board.without)
    drivers: dict[tuple[str, tuple[str, ...]], Driver] = {}
    needs: dict[tuple[str, str], Need] = {}
    wanted: list[Wanted] = []
    for tree in trees:
        for driver in find_drivers(tree, image.index, image.modules, board.without):
            drivers.setdefault((driver.path, driver.compatibles), driver)
        for need in find_needs(tree, find_controllers(tree, board.storage.controllers), ground):
            needs.setdefault((need.module, need.device), need)
        wanted += list(find_wanted(tree))
    firmware = judge([*wanted, *find_possible(image.firmware_wanted)], image.supply)
    return Verdict(tuple(drivers.values()), tuple(firmware), tuple(needs.values()))


def find_problems(
    board: Board, trees: Sequence[DeviceTree], verdict: Verdict, initramfs: Collection[str]
) -> list[Problem]:
    """What would keep the board from starting, or from having what its device tree names."""
    asker = f"board {board.board}"
    texts = [
        *_wrong_trees(board, trees),
        *_missing_drivers(verdict),
        *_missing_firmware(verdict),
        *_missing_in_initramfs(verdict, initramfs),
    ]
    return [Problem(asker, 0, 0, message, hint) for message, hint in texts]


def _wrong_trees(board: Board, trees: Sequence[DeviceTree]) -> Iterator[tuple[str, str]]:
    for tree in trees:
        own = tree.compatibles("/")
        if board.compatibles and not set(own) & set(board.compatibles):
            yield (
                f"the device tree {tree.name} is of {own[0] if own else 'nothing'!r}, and the board is"
                f" {' or '.join(board.compatibles)}",
                "name the right one in the board's kernel.device_trees",
            )
        elif board.storage.controllers and not find_controllers(tree, board.storage.controllers):
            controllers = ", ".join(board.storage.controllers)
            yield (
                f"the device tree {tree.name} has no storage that is switched on of {controllers}",
                "correct the board's storage.controllers",
            )


def _missing_drivers(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for each in verdict.drivers:
        what = f"{each.path} ({each.compatibles[0]})"
        if each.state == "left out":
            yield (
                f"the driver of {what} is not in the image: {', '.join(each.names)}",
                "add it to the board's kernel.modules, or say in its `without` why it is not needed",
            )
        elif each.state == "none":
            yield (
                f"this kernel has no driver for {what}",
                "say in the board's `without` why it is not needed, or name another kernel package",
            )


def _missing_firmware(verdict: Verdict) -> Iterator[tuple[str, str]]:
    for each in verdict.firmware:
        if each.state == "missing" and each.wanted.certain:
            yield (
                f"firmware {each.wanted.name} is in no package of the image, and {each.wanted.asker} asks for it",
                "add its package to firmware_packages and its name to firmware, or say in `without` why not",
            )


def _missing_in_initramfs(verdict: Verdict, initramfs: Collection[str]) -> Iterator[tuple[str, str]]:
    told = set()
    for each in verdict.needs:
        if each.module not in initramfs and each.module not in told:
            told.add(each.module)
            yield (
                f"the initramfs lacks {each.module}, the driver of {each.device}: {each.purpose}",
                "add it to the board's kernel.initramfs_modules",
            )


def make_document(board: Board, verdict: Verdict) -> dict[str, object]:
    """The verdict as plain data, for `hardware.json`."""
    return {
        "board": board.board,
        "drivers": [asdict(each) for each in verdict.drivers],
        "firmware": [
            {"name": each.wanted.name, "asked by": each.wanted.asker, "certain": each.wanted.certain}
            | {"state": each.state, "source": each.source}
            for each in verdict.firmware
        ],
        "initramfs": [asdict(each) for each in verdict.needs],
    }
