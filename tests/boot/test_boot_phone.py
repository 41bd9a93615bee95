"""Boards' own kernel, initramfs and root in QEMU.

A phone's disk lies inside a partition of a storage with large sectors; a board's is started by U-Boot. What their chips
do is not proved by it; that the way from there to a running system is whole, is.
"""

from __future__ import annotations

import json
import os
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet_builder.cache import default_root
from cumulet_builder.formats.disk import copy_ranges
from cumulet_builder.report.collect import probe_stored
from cumulet_builder.toolbox import Toolbox

pytestmark = [pytest.mark.boot, pytest.mark.timeout(3600)]
SECTOR = 4096
MIB = 1 << 20
# As a phone has them: two boot partitions, and userdata, larger than the image that was written over it.
TABLE = """label: gpt
start=256, size=16384, name="boot_a"
start=16640, size=16384, name="boot_b"
start=33024, size=1048576, name="userdata"
"""
Build = Callable[..., Path]
Run = Callable[..., str]
Need = Callable[[str], Path]


def put_into_userdata(folder: Path, target: Path) -> None:
    """A folder as `folder`, whose disk is a phone's storage with the image's disk in its partition userdata."""
    shutil.copytree(folder, target, copy_function=os.link)
    storage, disk = target / "storage.img", folder / "disk.img"
    storage.touch()
    os.truncate(storage, 6 << 30)
    key = json.loads((folder / "build.json").read_text())["stages"]["tools"]
    tools = Toolbox(default_root() / "stages/tools" / key / "tree")
    words = ["sfdisk", "--quiet", "--no-reread", "--no-tell-kernel", "--sector-size", str(SECTOR), storage]
    tools.run(words, folders=[target], input=TABLE)
    start = 33024 * SECTOR
    with storage.open("r+b") as stream:
        copy_ranges(folder / "boot.img", stream.fileno(), 256 * SECTOR, [(0, (folder / "boot.img").stat().st_size)])
        copy_ranges(disk, stream.fileno(), start, probe_stored(disk))
    # QEMU makes the disk longer again; the checks hold its growth against the size of the published file.
    os.truncate(storage, start + disk.stat().st_size)
    (target / "disk.img").unlink()
    storage.rename(target / "disk.img")


def test_a_phones_root_boots_out_of_the_partition_userdata(build: Build, cumulet: Run, tmp_path: Path) -> None:
    folder = build("base-phone", "base-phone")
    put_into_userdata(folder, tmp_path / "phone")
    cumulet("test", tmp_path / "phone", "--junit", tmp_path / "junit.xml", "--logs", tmp_path / "logs")
    suite = ElementTree.parse(tmp_path / "junit.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) >= 20
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["0", "0", "0"]
    console = (tmp_path / "logs/console.log").read_text(errors="replace")
    assert "cumulet: root mounted" in console
    assert "NOTHING IS KEPT" not in console


def test_u_boot_starts_a_board_by_its_menu(cumulet: Run, out: Path, tmp_path: Path, need_file: Need) -> None:
    """U-Boot for QEMU stands in for the PinePhone's: it finds the partition, reads the menu, loads what that names."""
    u_boot = need_file("/usr/lib/u-boot/qemu_arm64/u-boot.bin")
    code, store = tmp_path / "code.bin", tmp_path / "store.bin"
    shutil.copyfile(u_boot, code)
    store.touch()
    for path in (code, store):
        os.truncate(path, 64 * MIB)  # as large as the flash of QEMU's machine
    changes = (
        *("board=pinephone", "image=base-u-boot", "board.kernel.command_line=[console=ttyAMA0]"),
        *(f"board.qemu.firmware=[{code}]", f"board.qemu.firmware_vars=[{store}]"),
    )
    cumulet("build", "base-phone", "--out", out, *(word for change in changes for word in ("--set", change)))
    cumulet("boot", "base-u-boot", "--firmware", "--until", "running", "--out", out, "--logs", tmp_path / "logs")
    console = (tmp_path / "logs/console.log").read_text(errors="replace")
    assert "U-Boot" in console
    assert "Found /extlinux/extlinux.conf" in console
    assert "cumulet: root mounted" in console
