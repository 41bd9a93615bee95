"""The bundled boards: what each is, what it lacks, how that is supplied, and what the command line tells of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.cli import main
from cumulet_builder.engines.debian.resolve import make_request
from cumulet_builder.recipe.boards import check_supplied, load_board, load_boards
from cumulet_builder.recipe.load import load_recipe

Write = Callable[[str, str], Path]
Capture = pytest.CaptureFixture[str]
COMPLETE = ("fairphone-fp5", "oneplus-enchilada", "oneplus-fajita", "pinephone", "qemu-arm64", "rockpro64")
LACKING = {
    "fairphone-fp4": "kernel",
    "librem5": "boot loader",
    "orangepi5-plus": "boot loader",
    "pinephone-pro": "boot loader",
}
HEAD = "version: 1\nimage: edge\nfeatures: [base]\n"


def test_every_board_is_complete_or_says_what_it_lacks() -> None:
    boards = {board.board: board for board in load_boards(find_assets("recipes"))}
    assert {name for name, board in boards.items() if not board.lacking} == {*COMPLETE, "qemu-amd64"}
    assert {name: board.lacking[0].what for name, board in boards.items() if board.lacking} == LACKING


@pytest.mark.parametrize("name", [*COMPLETE, *LACKING])
def test_a_board_has_all_that_a_build_and_a_flash_ask_for(name: str) -> None:
    board = load_board(name, find_assets("recipes"))
    assert board.soc or name.startswith("qemu")
    assert board.qemu is not None
    if name.startswith("qemu"):
        return
    assert board.compatibles
    assert board.storage.controllers
    assert board.flash is not None
    assert board.support in ("untested", "emulated")
    phone = board.boot.method == "android"
    assert (board.storage.sector_size, board.storage.inside) == ((4096, "userdata") if phone else (512, None))
    assert phone == (board.flash.method == "fastboot")
    if phone:
        assert len(board.kernel.device_trees) == 1
        written = {each.file for each in board.flash.writes}
        assert {"boot.img", "disk.simg"} <= written
        assert board.boot.android is not None
        assert ("vbmeta.img" in written) is board.boot.android.disable_verification


@pytest.mark.parametrize("name", LACKING)
def test_a_board_that_lacks_something_ends_a_build_with_the_way_to_supply_it(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_supplied(load_board(name, find_assets("recipes")))
    assert caught.value.message.startswith(f"board {name}: no {LACKING[name]}: ")
    assert f"board.{'kernel' if LACKING[name] == 'kernel' else 'boot.loader'}.file=./" in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_what_is_supplied_is_not_lacking(write: Write) -> None:
    recipe = load_recipe(write("r.yaml", f"{HEAD}board: pinephone-pro\n"), ["board.boot.loader.file=./u-boot.bin"])
    check_supplied(recipe.board)
    assert recipe.board.boot.loader is not None
    assert recipe.board.boot.loader.file == str(Path.cwd() / "u-boot.bin")
    assert not any(name.startswith("u-boot") for name in make_request(recipe, "amd64", ()).boot)


def test_a_kernel_of_ones_own_is_asked_of_no_mirror(write: Write) -> None:
    recipe = load_recipe(write("r.yaml", f"{HEAD}board: fairphone-fp4\n"), ["board.kernel.file=./linux-image-x.deb"])
    check_supplied(recipe.board)
    assert "linux-image-arm64" not in make_request(recipe, "amd64", ()).boot


def test_what_a_board_needs_opened_is_asked_for(write: Write) -> None:
    phone = make_request(load_recipe(write("r.yaml", f"{HEAD}board: oneplus-enchilada\n")), "amd64", ())
    assert {"droid-juicer", "linux-image-arm64", "firmware-qcom-soc"} <= set(phone.boot)
    assert phone.formats == ("android-sdk-libsparse-utils", "mkbootimg")
    assert phone.components == ("main", "non-free-firmware")
    board = make_request(load_recipe(write("r.yaml", f"{HEAD}board: rockpro64\n")), "amd64", ())
    assert "u-boot-rockchip" in board.boot
    assert (board.formats, board.base) == ((), phone.base)


def test_the_list_of_boards(capsys: Capture) -> None:
    assert main(["boards"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "qemu-arm64 tested QEMU virt machine, 64-bit ARM" in lines
    assert "fairphone-fp4 needs a kernel Fairphone 4 (SM7225 phone)" in lines
    assert main(["boards", "--json"]) == 0
    rows = {row["board"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["librem5"]["complete"] is False
    assert rows["librem5"]["missing"][0]["what"] == "boot loader"
    assert (rows["fairphone-fp5"]["complete"], rows["fairphone-fp5"]["boot"]) == (True, "android")


def test_one_board(capsys: Capture) -> None:
    assert main(["board", "show", "pinephone"]) == 0
    shown = capsys.readouterr().out
    assert "  starts by     extlinux.conf, U-Boot at 128KiB\n" in shown
    assert "  flashed by    block: /dev/mmcblk0, /dev/mmcblk2\n" in shown
    assert main(["board", "show", "fairphone-fp4"]) == 0
    assert "  missing: kernel: Debian's kernel cannot start this phone" in capsys.readouterr().out
    assert main(["board", "show", "oneplus-enchilada", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["flash"]["erase"] == ["dtbo_a", "dtbo_b"]
    assert main(["board", "show", "pinefone"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "hint: did you mean 'pinephone'?"


def test_a_wrong_address_is_said(write: Write) -> None:
    with pytest.raises(UsageError) as caught:
        load_recipe(write("r.yaml", f"{HEAD}board: oneplus-enchilada\n"), ["board.boot.android.tags_offset='256'"])
    assert "'256' is not an address; write it like 0x00008000" in str(caught.value.problems[0])
