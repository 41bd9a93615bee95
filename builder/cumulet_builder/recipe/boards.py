"""Boards by themselves: reading one or all, what one needs that Debian has not got, and what it is in a few lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cumulet.core.documents import Place, Value, check, make_error
from cumulet.core.errors import Problem
from cumulet_builder.recipe.board import Board
from cumulet_builder.recipe.fragments import Reader


def load_board(name: str, recipes: Path) -> Board:
    """A bundled board by its name, or one of your own by its path. Raises UsageError with every problem."""
    reader = Reader(recipes)
    found = reader.read_board(Value(name, Place(f"board {name}"), Place(f"board {name}")))
    board, problems = check(Board, found[0], "board") if found else (None, [])
    if board is None or reader.problems or problems:
        raise make_error([*reader.problems, *problems])
    return board


def load_boards(recipes: Path) -> list[Board]:
    """Every bundled board, in the order of their names."""
    return [load_board(name, recipes) for name in sorted(path.stem for path in (recipes / "boards").glob("*.yaml"))]


def check_supplied(board: Board) -> None:
    """Raise UsageError with everything that Debian has not got for this board and that the recipe does not name."""
    asker = f"board {board.board}"
    problems = [
        Problem(asker, 0, 0, f"no {each.what}: {' '.join(each.why.split())}", " ".join(each.supply.split()))
        for each in board.lacking
    ]
    if problems:
        raise make_error(problems)


def describe_state(board: Board) -> str:
    """One or two words: whether an image can be built, and how far it was tried."""
    lacking = " and ".join(each.what for each in board.lacking)
    return f"needs a {lacking}" if lacking else board.support


def make_lines(board: Board) -> Iterator[str]:
    """What there is to know about a board, as lines of text."""
    yield f"{board.board}: {board.title}"
    rows = [
        ("state", describe_state(board)),
        ("chip", ", ".join(word for word in (board.soc, board.gpu) if word)),
        ("architecture", board.architecture),
        ("starts by", _describe_boot(board)),
        ("storage", _describe_storage(board)),
        ("kernel", board.kernel.file or board.kernel.package),
        ("device trees", ", ".join(board.kernel.device_trees)),
        ("firmware", _describe_firmware(board)),
        ("flashed by", _describe_flash(board)),
        ("QEMU", f"{board.qemu.program} -machine {board.qemu.machine}" if board.qemu else ""),
    ]
    yield from (f"  {name:<14}{text}" for name, text in rows if text)
    for each in board.lacking:
        yield f"  missing: {each.what}: {' '.join(each.why.split())}"
        yield f"    {' '.join(each.supply.split())}"
    for without in board.without:
        words = (*without.drivers, *without.modules, *without.firmware)
        yield f"  without {', '.join(words)}: {' '.join(without.why.split())}"
    for note in (*board.notes, *(board.flash.notes if board.flash else ())):
        yield f"  note: {' '.join(note.split())}"


def _describe_boot(board: Board) -> str:
    how = {"uefi": "UEFI and systemd-boot", "extlinux": "extlinux.conf", "android": "an Android boot image"}
    boot = board.boot
    text = how[boot.method]
    if boot.android:
        text += f", header version {boot.android.header_version}"
    if boot.loader:
        text += f", U-Boot at {boot.loader.offset}"
    return text


def _describe_storage(board: Board) -> str:
    storage = board.storage
    inside = f", the disk in the partition {storage.inside}" if storage.inside else ""
    return f"sectors of {storage.sector_size} bytes{inside}"


def _describe_firmware(board: Board) -> str:
    words = [*board.firmware_packages, *([f"{board.firmware_from} at first boot"] if board.firmware_from else [])]
    return ", ".join(words)


def _describe_flash(board: Board) -> str:
    flash = board.flash
    if flash is None:
        return ""
    places = [f"{each.file} to {each.partition}" for each in flash.writes] or list(flash.devices)
    return f"{flash.method}{': ' if places else ''}{', '.join(places)}"
