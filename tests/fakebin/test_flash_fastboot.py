"""Flashing by the real fastboot, over TCP, to a phone that is played by a program of ours."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.core.files import sha256_file
from cumulet_builder.cli import main
from cumulet_builder.flash.flash import flash, make_plan
from cumulet_builder.flash.plan import Plan
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget, load_target
from cumulet_qemu.sim.fastboot import Phone, plugged_in

MIB = 1 << 20
SIZES = {"boot_a": 8 * MIB, "boot_b": 8 * MIB, "dtbo_a": MIB, "dtbo_b": MIB, "userdata": 64 * MIB}
BOARD = {
    "board": "oneplus-enchilada",
    "flash": {
        "method": "fastboot",
        "products": ["sdm845"],
        "erase": ["dtbo_a", "dtbo_b"],
        "writes": [
            {"file": "boot.img", "partition": "boot", "slots": "both"},
            {"file": "disk.simg", "partition": "userdata"},
        ],
        "notes": ["Restart with fastboot reboot, not with the power button."],
    },
}
BOOT = bytes(range(256)) * 4000
TEXT = b"the root of the phone. " * 178000
ROOT = TEXT[: len(TEXT) // 4096 * 4096]


@pytest.fixture(autouse=True)
def _tool(need: Callable[[str], str]) -> None:
    need("fastboot")


def make_sparse(content: bytes, gap: int) -> bytes:
    """A sparse image: the content, a gap of blocks that are left alone, one filled block."""
    blocks = len(content) // 4096
    chunks = struct.pack("<HHII", 0xCAC1, 0, blocks, 12 + len(content)) + content
    chunks += struct.pack("<HHII", 0xCAC3, 0, gap, 12)
    chunks += struct.pack("<HHII", 0xCAC2, 0, 1, 16) + b"fill"
    return struct.pack("<IHHHHIIII", 0xED26FF3A, 1, 0, 28, 12, 4096, blocks + gap + 1, 3, 0) + chunks


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A published folder with a boot image and a sparse disk."""
    folder = tmp_path / "edge"
    folder.mkdir()
    (folder / "boot.img").write_bytes(BOOT)
    (folder / "disk.simg").write_bytes(make_sparse(ROOT, 10))
    (folder / "board.json").write_text(json.dumps(BOARD))
    (folder / "image.json").write_text('{"image": "edge"}')
    names = ("boot.img", "disk.simg")
    (folder / "sha256sums").write_text("".join(f"{sha256_file(folder / name)}  {name}\n" for name in names))
    return folder


@pytest.fixture
def target(image: Path) -> FlashTarget:
    return load_target(image)


@pytest.fixture
def phone(tmp_path: Path) -> Phone:
    # Smaller than the disk: fastboot must send it in parts.
    return Phone(tmp_path / "phone", SIZES, max_download=2 * MIB)


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    return Surroundings("", tmp_path / "notes", patience=1.5)


def yes(plan: Plan) -> bool:
    return True


def flashes(phone: Phone) -> list[str]:
    return [word for word in phone.commands if word.startswith(("flash:", "erase:"))]


def test_a_phone_is_flashed_on_both_slots_and_restarted(
    target: FlashTarget, phone: Phone, around: Surroundings
) -> None:
    with plugged_in(phone) as device:
        outcome = flash(target, replace(around, device=device), yes)
    assert phone.content("boot_a") == phone.content("boot_b") == BOOT
    userdata = phone.content("userdata")
    assert userdata[: len(ROOT)] == ROOT
    assert userdata[len(ROOT) + 10 * 4096 :] == b"fill" * 1024
    assert flashes(phone)[:4] == ["erase:dtbo_a", "erase:dtbo_b", "flash:boot_a", "flash:boot_b"]
    assert flashes(phone).count("flash:userdata") > 1
    assert phone.commands[-1] == "reboot"
    assert not outcome.verified
    assert not any("set_active" in word for word in phone.commands)


def test_a_dry_run_writes_nothing(image: Path, phone: Phone, capsys: pytest.CaptureFixture[str], here: Path) -> None:
    with plugged_in(phone) as device:
        assert main(["flash", str(image), "--to", device, "--dry-run", "--json"]) == 0
        document = json.loads(capsys.readouterr().out)
        assert [step["id"] for step in document["steps"]][-1] == "reboot"
        assert all(check["ok"] for check in document["checks"])
        assert main(["flash", str(image), "--to", device]) == 2
        assert "nobody said yes" in capsys.readouterr().err
    assert flashes(phone) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"product": "FP5"}, "the device says it is 'FP5', this image is for sdm845 (oneplus-enchilada)"),
        ({"unlocked": False}, "the boot loader is locked"),
        ({"variables": {"battery-soc-ok": "no"}}, "the battery is too low to flash"),
        ({"max_download": MIB // 2}, f"boot.img has {len(BOOT)} bytes, the boot loader takes {MIB // 2} at once"),
        ({"partitions": {**SIZES, "boot_b": MIB // 2}}, f"boot.img takes {len(BOOT)} bytes, partition boot_b has"),
        ({"partitions": {k: v for k, v in SIZES.items() if k != "userdata"}}, "no partition 'userdata' on the device"),
    ],
)
def test_another_phone_than_the_right_one_is_refused_and_left_alone(
    target: FlashTarget, phone: Phone, around: Surroundings, change: dict[str, object], message: str
) -> None:
    wrong = replace(phone, **change)  # type: ignore[arg-type]
    with plugged_in(wrong) as device, pytest.raises(TargetError) as caught:
        flash(target, replace(around, device=device), yes)
    assert message in caught.value.message
    assert flashes(wrong) == []


def test_a_flashing_that_was_cut_off_goes_on_where_it_was(
    target: FlashTarget, phone: Phone, around: Surroundings
) -> None:
    phone.cut_after = 3 * len(BOOT)
    with plugged_in(phone) as device:
        here = replace(around, device=device)
        with pytest.raises(TargetError, match="flash userdata"):
            flash(target, here, yes)
        done = len(phone.commands)
        plan = make_plan(target, here)
        assert [step.id for step in plan.steps if step.done] == [
            "erase dtbo_a", "erase dtbo_b", "flash boot_a", "flash boot_b",
        ]  # fmt: skip
        flash(target, here, yes)
        again = [word for word in phone.commands[done:] if word.startswith(("flash:", "erase:"))]
        assert set(again) == {"flash:userdata"}
        assert phone.content("userdata")[: len(ROOT)] == ROOT
        # A finished flashing leaves no notes: the next one writes everything.
        assert not any(step.done for step in make_plan(target, here).steps)


def test_restart_forgets_what_was_done(target: FlashTarget, phone: Phone, around: Surroundings) -> None:
    phone.cut_after = 3 * len(BOOT)
    with plugged_in(phone) as device:
        with pytest.raises(TargetError):
            flash(target, replace(around, device=device), yes)
        plan = make_plan(target, replace(around, device=device, restart=True))
    assert not any(step.done for step in plan.steps)


def test_a_changed_file_is_not_flashed(image: Path, target: FlashTarget, phone: Phone, around: Surroundings) -> None:
    (image / "boot.img").write_bytes(BOOT[:-1] + b"!")
    with plugged_in(phone) as device, pytest.raises(UsageError, match=r"boot\.img: not what was published"):
        flash(target, replace(around, device=device), yes)
    assert flashes(phone) == []


def test_a_boot_loader_that_refuses_is_told_in_its_own_words(
    target: FlashTarget, phone: Phone, around: Surroundings
) -> None:
    lying = replace(phone, variables={"unlocked": "yes"}, unlocked=False)
    with plugged_in(lying) as device, pytest.raises(TargetError, match="not allowed in Lock State"):
        flash(target, replace(around, device=device), yes)


def test_a_device_that_is_not_there(target: FlashTarget, around: Surroundings, here: Path) -> None:
    with pytest.raises(TargetError, match=r"tcp:127\.0\.0\.1:1: does not answer"):
        flash(target, replace(around, device="tcp:127.0.0.1:1"), yes)


def test_two_at_once_are_refused(target: FlashTarget, phone: Phone, around: Surroundings) -> None:
    with plugged_in(phone) as device:
        here = replace(around, device=device)

        def second(plan: Plan) -> bool:
            with pytest.raises(ToolError, match="is in use by process"):
                flash(target, here, yes)
            return True

        flash(target, here, second)
