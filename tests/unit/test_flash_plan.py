"""Flash plans: every check that must stop a flashing, and what is passed over because it was done. Pure."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet_builder.flash import block, fastboot, uuu
from cumulet_builder.flash.block import BlockFacts
from cumulet_builder.flash.disks import DiskFacts, Use, make_uses, read_mounts
from cumulet_builder.flash.fastboot import FastbootFacts, parse_answers
from cumulet_builder.flash.plan import Plan, make_document, make_lines, refuse_unsafe
from cumulet_builder.flash.target import FlashTarget, ImageFile, PartitionWrite, load_target

MIB = 1 << 20
BOOT = ImageFile(Path("/out/boot.img"), 20 * MIB, 20 * MIB, "b" * 64)
DISK = ImageFile(Path("/out/disk.simg"), 900 * MIB, 300 * MIB, "d" * 64, sparse=True)
TARGET = FlashTarget(
    "edge",
    "oneplus-enchilada",
    "fastboot",
    products=("sdm845",),
    unlock="fastboot oem unlock",
    erase=("dtbo_a", "dtbo_b"),
    writes=(PartitionWrite(BOOT, "boot", "both"), PartitionWrite(DISK, "userdata")),
)
FACTS = FastbootFacts(
    "c0ffee",
    product="sdm845",
    serial="c0ffee",
    unlocked=True,
    current_slot="a",
    max_download=256 * MIB,
    sizes={"dtbo_a": MIB, "dtbo_b": MIB, "boot_a": 64 * MIB, "boot_b": 64 * MIB, "userdata": 50000 * MIB},
)
CARD = FlashTarget("edge", "rockpro64", "block", disk=ImageFile(Path("/out/disk.img"), 900 * MIB, 900 * MIB, "d" * 64))
EMPTY = DiskFacts("/dev/sdx", 8000 * MIB)


def without(facts: FastbootFacts, *names: str) -> FastbootFacts:
    return replace(facts, sizes={name: size for name, size in facts.sizes.items() if name not in names})


def test_a_phone_that_is_as_it_must_be_is_flashed_on_both_slots() -> None:
    plan = fastboot.make_plan(TARGET, FACTS)
    refuse_unsafe(plan)
    assert [step.id for step in plan.steps] == [
        "erase dtbo_a", "erase dtbo_b", "flash boot_a", "flash boot_b", "flash userdata", "reboot",
    ]  # fmt: skip
    assert plan.steps[2].argv == ("fastboot", "-s", "c0ffee", "flash", "boot_a", "/out/boot.img")


def test_no_plan_sets_the_active_slot() -> None:
    text = json.dumps(make_document(fastboot.make_plan(TARGET, FACTS)))
    assert "set_active" not in text
    assert "qbootctl" not in text


@pytest.mark.parametrize(
    ("target", "facts", "message", "hint"),
    [
        (
            TARGET,
            replace(FACTS, product="FP5"),
            "c0ffee: the device says it is 'FP5', this image is for sdm845 (oneplus-enchilada)",
            "this is another device: build the image for its board",
        ),
        (
            replace(TARGET, products=()),
            FACTS,
            "c0ffee: board oneplus-enchilada does not say what its boot loader calls itself",
            "add its product name to the board's file",
        ),
        (
            TARGET,
            replace(FACTS, unlocked=False),
            "c0ffee: the boot loader is locked",
            "unlock it first, which erases the phone: fastboot oem unlock",
        ),
        (
            TARGET,
            replace(FACTS, unlocked=None),
            "c0ffee: the boot loader does not say that it is unlocked",
            "unlock it first, which erases the phone: fastboot oem unlock",
        ),
        (TARGET, replace(FACTS, battery_ok=False), "c0ffee: the battery is too low to flash", "charge it first"),
        (
            TARGET,
            replace(FACTS, current_slot=""),
            "c0ffee: the active slot is 'unknown', neither a nor b",
            "fastboot getvar current-slot",
        ),
        (TARGET, without(FACTS, "dtbo_b"), "c0ffee: no partition 'dtbo_b' on the device", "nothing was written"),
        (TARGET, without(FACTS, "boot_b"), "c0ffee: no partition 'boot_b' on the device", "nothing was written"),
        (
            TARGET,
            replace(FACTS, sizes={**FACTS.sizes, "boot_b": 16 * MIB}),
            "c0ffee: boot.img takes 20971520 bytes, partition boot_b has 16777216",
            "make the image smaller, or choose another partition in the board's file",
        ),
        (
            TARGET,
            replace(FACTS, max_download=16 * MIB),
            "c0ffee: boot.img has 20971520 bytes, the boot loader takes 16777216 at once; "
            "boot.img has 20971520 bytes, the boot loader takes 16777216 at once",
            "only a sparse image is sent in parts",
        ),
    ],
)
def test_a_phone_that_is_not_as_it_must_be_is_refused(
    target: FlashTarget, facts: FastbootFacts, message: str, hint: str
) -> None:
    with pytest.raises(TargetError) as caught:
        refuse_unsafe(fastboot.make_plan(target, facts))
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_every_problem_is_told_at_once() -> None:
    with pytest.raises(TargetError) as caught:
        refuse_unsafe(fastboot.make_plan(TARGET, replace(FACTS, product="FP5", unlocked=False)))
    assert "FP5" in caught.value.message
    assert "locked" in caught.value.message


def test_what_an_earlier_run_did_is_passed_over_unless_the_content_is_another() -> None:
    first = fastboot.make_plan(TARGET, FACTS)
    facts = replace(FACTS, done=frozenset(step.key for step in first.steps[:3]))
    assert [step.id for step in fastboot.make_plan(TARGET, facts).left] == ["flash boot_b", "flash userdata", "reboot"]
    other = replace(TARGET, writes=(PartitionWrite(replace(BOOT, sha256="c" * 64), "boot", "both"),))
    assert "flash boot_a" in [step.id for step in fastboot.make_plan(other, facts).left]


def test_a_boot_loader_that_can_be_read_is_read_back() -> None:
    ids = [step.id for step in fastboot.make_plan(TARGET, replace(FACTS, fetch=MIB)).steps]
    assert ids[-4:] == ["verify boot_a", "verify boot_b", "verify userdata", "reboot"]
    assert any("gives nothing back" in note for note in fastboot.make_plan(TARGET, FACTS).notes)


def test_a_plan_without_a_device_says_what_it_would_ask() -> None:
    plan = fastboot.make_plan(TARGET, None)
    assert {check.ok for check in plan.checks} == {None}
    refuse_unsafe(plan)
    assert plan.steps[2].argv == ("fastboot", "flash", "boot_a", "/out/boot.img")
    assert "to a device that is not there yet" in next(make_lines(plan))


def test_answers_of_boot_loaders_are_read_in_their_several_forms() -> None:
    text = (
        "product: sdm845\r\n(bootloader) unlocked:yes\npartition-size:boot_a:  0x4000000\n"
        "getvar:nope  FAILED (remote: 'unknown variable')\nFinished. Total time: 0.001s\n"
    )
    found = parse_answers(["product", "partition-size:boot_a", "nope"], text)
    assert found == {"product": "sdm845", "partition-size:boot_a": "0x4000000"}
    assert [fastboot.parse_hex(word) for word in ("0x4000000", "4000000", "", None)] == [64 * MIB, 64 * MIB, None, None]
    assert [fastboot.parse_number(word) for word in ("0x100", "536870912", "many")] == [256, 536870912, None]


@pytest.mark.parametrize(
    ("disk", "message", "hint"),
    [
        (replace(EMPTY, whole=False), "a partition, and the image is a whole disk", "name the disk it is on"),
        (
            replace(EMPTY, uses=(Use("sdx2 is mounted on /", system=True), Use("sdx3 is mounted on /media"))),
            "this computer runs from it: sdx2 is mounted on /",
            "name another disk: lsblk lists them",
        ),
        (
            replace(EMPTY, uses=(Use("sdx1 is mounted on /media/card"),)),
            "sdx1 is mounted on /media/card",
            "unmount it first, if it is the right one",
        ),
        (
            replace(EMPTY, read_only=True),
            "it is write-protected",
            "look for the switch on the card or its adapter",
        ),
        (
            replace(EMPTY, size=100 * MIB),
            "it has 104857600 bytes, the image takes 943718400",
            "use a bigger one, or build with a smaller disk.data",
        ),
    ],
)
def test_a_disk_that_must_not_be_written_is_refused(disk: DiskFacts, message: str, hint: str) -> None:
    plan = block.make_plan(CARD, BlockFacts(disk, True, ((0, 9),), ((0, 9),)))
    with pytest.raises(TargetError) as caught:
        refuse_unsafe(plan)
    assert (caught.value.message, caught.value.hint) == (f"/dev/sdx: {message}", hint)


def test_only_what_differs_is_written_and_neighbours_go_together() -> None:
    facts = BlockFacts(EMPTY, True, ((0, 4095), (9000, 9001)), ((0, 1023), (1024, 2047), (9000, 9001)))
    plan = block.make_plan(CARD, facts)
    assert [step.id for step in plan.steps] == ["write /dev/sdx", "verify"]
    assert plan.steps[0].ranges == ((0, 2047), (9000, 9001))
    assert plan.steps[0].bytes == 2050 * 4096
    same = block.make_plan(CARD, replace(facts, differing=()))
    assert [step.id for step in same.steps] == ["verify"]


def test_without_bmaptool_dd_does_it() -> None:
    plan = block.make_plan(CARD, BlockFacts(EMPTY, False, ((0, 9), (20, 29)), ((0, 9), (20, 29))))
    assert [step.id for step in plan.steps] == ["write /dev/sdx at 0", "write /dev/sdx at 81920", "verify"]
    assert {"seek=81920", "skip=81920", "count=40960", "conv=notrunc,fsync"} <= set(plan.steps[1].argv)


def test_mounts_are_found_on_partitions_and_on_what_is_built_on_them() -> None:
    text = (
        "22 1 254:3 / / rw - ext4 /dev/mapper/root rw\n23 22 8:17 / /media/my\\040card rw,nosuid - vfat /dev/sdb1 rw\n"
    )
    stack = {(8, 16): "sdb", (8, 17): "sdb1", (254, 3): "dm-3"}
    assert make_uses(stack, read_mounts(text)) == [
        Use("dm-3 is mounted on /", system=True),
        Use("sdb1 is mounted on /media/my card"),
    ]


def test_uuu_gets_the_boards_own_lines() -> None:
    lines = ("SDP: boot -f {loader}", "FB: flash -raw2sparse mmc0 {disk}")
    target = replace(CARD, method="uuu", script=lines, loader=Path("/out/u-boot.imx"))
    assert uuu.make_script(target).splitlines()[1:] == [
        "SDP: boot -f /out/u-boot.imx",
        "FB: flash -raw2sparse mmc0 /out/disk.img",
    ]
    assert uuu.make_plan(target, None).steps[0].argv == ("uuu", "-v", "PLAN.uuu")
    with pytest.raises(UsageError, match="has no loader for uuu"):
        uuu.make_script(replace(target, loader=None))


def test_a_published_folder_says_how_it_is_flashed(tmp_path: Path) -> None:
    (tmp_path / "boot.img").write_bytes(b"boot")
    (tmp_path / "image.json").write_text('{"image": "edge"}')
    (tmp_path / "sha256sums").write_text(f"{'b' * 64}  boot.img\n")
    flash = {"method": "fastboot", "products": ["sdm845"], "erase": ["dtbo_a"]}
    writes = [{"file": "boot.img", "partition": "boot", "slots": "both"}]
    (tmp_path / "board.json").write_text(json.dumps({"board": "phone", "flash": {**flash, "writes": writes}}))
    target = load_target(tmp_path)
    assert target.writes[0].partitions == ("boot_a", "boot_b")
    assert target.writes[0].file == ImageFile(tmp_path / "boot.img", 4, 4, "b" * 64)
    (tmp_path / "board.json").write_text(json.dumps({"board": "qemu-arm64"}))
    with pytest.raises(UsageError, match="edge: the board 'qemu-arm64' says nothing about flashing"):
        load_target(tmp_path)


def test_a_plan_is_data(tmp_path: Path) -> None:
    plan: Plan = fastboot.make_plan(TARGET, FACTS)
    document = json.loads(json.dumps(make_document(plan)))
    assert document["version"] == 1
    assert document["steps"][4]["sha256"] == "d" * 64
