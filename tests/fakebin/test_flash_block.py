"""Flashing a real block device: a loop device over a file, written by the real bmaptool or dd."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import sha256_file
from cumulet_builder.flash import block
from cumulet_builder.flash.disks import probe_disk
from cumulet_builder.flash.flash import flash, make_plan
from cumulet_builder.flash.plan import Plan
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget, load_target
from cumulet_builder.formats.blockmap import make_map, probe_ranges

MIB = 1 << 20
NOISE = random.Random(7).randbytes(9 * MIB)


def yes(plan: Plan) -> bool:
    return True


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A published folder with a disk of 24 MiB: 9 MiB of content at 1 MiB, a little at the end, else holes."""
    folder = tmp_path / "edge"
    folder.mkdir()
    disk = folder / "disk.img"
    with disk.open("wb") as stream:
        stream.truncate(24 * MIB)
        stream.seek(MIB)
        stream.write(NOISE)
        stream.seek(24 * MIB - 4096)
        stream.write(b"end " * 1024)
    (folder / "disk.bmap").write_text(make_map(24 * MIB, probe_ranges(disk)))
    (folder / "board.json").write_text(json.dumps({"board": "rockpro64", "flash": {"method": "block"}}))
    (folder / "image.json").write_text('{"image": "edge"}')
    (folder / "sha256sums").write_text(f"{sha256_file(disk)}  disk.img\n")
    return folder


@pytest.fixture
def target(image: Path) -> FlashTarget:
    return load_target(image)


@pytest.fixture
def card(tmp_path: Path, need: Callable[[str], str]) -> Iterator[Path]:
    """A disk of 32 MiB with old content."""
    need("losetup")
    if os.geteuid() != 0:
        pytest.skip("a loop device needs root")
    backing = tmp_path / "card.img"
    backing.write_bytes(b"old " * (8 * MIB))
    device = Path(proc.run(["losetup", "--find", "--show", backing]).out.strip())
    try:
        yield device
    finally:
        proc.run(["losetup", "-d", device], check=False)


@pytest.fixture
def around(card: Path, tmp_path: Path) -> Surroundings:
    return Surroundings(str(card), tmp_path / "notes")


def assert_written(card: Path) -> None:
    handle = os.open(card, os.O_RDONLY)
    try:
        assert os.pread(handle, MIB, 0) == b"old " * (MIB // 4)
        assert os.pread(handle, 9 * MIB, MIB) == NOISE
        assert os.pread(handle, 4096, 24 * MIB - 4096) == b"end " * 1024
    finally:
        os.close(handle)


def test_a_card_is_written_where_the_image_has_content_and_read_back(
    target: FlashTarget, around: Surroundings, card: Path, need: Callable[[str], str]
) -> None:
    need("bmaptool")
    outcome = flash(target, around, yes)
    assert outcome.verified
    assert outcome.plan.steps[0].argv[0] == "bmaptool"
    assert_written(card)


def test_a_second_run_writes_nothing_and_asks_nobody(target: FlashTarget, around: Surroundings) -> None:
    flash(target, around, yes)
    outcome = flash(target, around, lambda plan: False)
    assert [step.id for step in outcome.plan.steps] == ["verify"]


def test_what_was_cut_off_goes_on_where_it_was(target: FlashTarget, around: Surroundings, card: Path) -> None:
    flash(target, around, yes)
    with card.open("r+b") as stream:
        stream.seek(6 * MIB)
        stream.write(b"old " * MIB)
    plan = make_plan(target, around)
    assert 4 * MIB <= plan.steps[0].bytes <= 8 * MIB
    flash(target, around, yes)
    assert_written(card)


def test_without_bmaptool_dd_does_the_same(
    target: FlashTarget, around: Surroundings, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(block, "BMAPTOOL", "bmaptool-that-nobody-has")
    outcome = flash(target, around, yes)
    assert outcome.plan.steps[0].argv[0] == "dd"
    assert outcome.verified
    assert_written(card)


def test_a_mounted_card_is_refused(
    target: FlashTarget, around: Surroundings, card: Path, tmp_path: Path, need: Callable[[str], str]
) -> None:
    proc.run([need("mke2fs"), "-q", "-F", card])
    place = tmp_path / "mounted"
    place.mkdir()
    proc.run(["mount", "-o", "ro", card, place])
    try:
        with pytest.raises(TargetError) as caught:
            flash(target, around, yes)
    finally:
        proc.run(["umount", place])
    assert caught.value.message == f"{card}: {card.name} is mounted on {place}"
    assert caught.value.hint == "unmount it first, if it is the right one"


def test_the_disk_this_computer_runs_from_is_refused(target: FlashTarget, tmp_path: Path) -> None:
    number = Path("/").stat().st_dev
    found = Path("/sys/dev/block") / f"{os.major(number)}:{os.minor(number)}"
    if not found.exists():
        pytest.skip("this computer's root is not on a disk that the kernel names")
    device = Path("/dev") / found.resolve().name
    disk = probe_disk(str(device))
    assert any(use.system for use in disk.uses)
    # Not through flash(): a mistake in the check must not cost the computer that runs the test.
    assert "not this computer's system" in block.problems_of(disk, target.disk) if target.disk else False


def test_a_write_protected_card_is_refused(target: FlashTarget, around: Surroundings, card: Path) -> None:
    proc.run(["blockdev", "--setro", card])
    try:
        with pytest.raises(TargetError, match="it is write-protected"):
            flash(target, around, yes)
    finally:
        # The next owner of the loop device would find it so.
        proc.run(["blockdev", "--setrw", card])


def test_a_card_that_loses_what_it_was_given_is_noticed(
    target: FlashTarget, around: Surroundings, card: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = block.act

    def lossy(*words: object) -> None:
        real(*words)  # type: ignore[arg-type]
        with card.open("r+b") as stream:
            stream.seek(5 * MIB)
            stream.write(b"?")

    monkeypatch.setattr(block, "act", lossy)
    with pytest.raises(TargetError, match=f"reads back differently from byte {5 * MIB} on"):
        flash(target, around, yes)


def test_a_map_of_another_image_is_refused(image: Path, target: FlashTarget, around: Surroundings) -> None:
    (image / "disk.bmap").write_text(make_map(8 * MIB, []))
    with pytest.raises(UsageError, match=r"disk\.bmap: not the map of disk\.img"):
        flash(target, around, yes)


def test_what_is_no_disk_is_refused(target: FlashTarget, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which disk is to be written"):
        flash(target, Surroundings("", tmp_path), yes)
    (tmp_path / "file").touch()
    for name, text in ((tmp_path / "file", "not a block device"), (tmp_path / "no", "No such file")):
        with pytest.raises(UsageError, match=text):
            flash(replace(target), Surroundings(str(name), tmp_path), yes)
