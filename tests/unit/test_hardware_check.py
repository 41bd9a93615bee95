"""The verdict on a board: drivers, firmware, the way to the root, and each thing that is wrong with them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from device_trees import make_dtb

from cumulet_builder.hardware.check import Image, find_problems, judge_board, make_document
from cumulet_builder.hardware.devicetree import DeviceTree, read_device_tree
from cumulet_builder.hardware.drivers import DriverIndex, make_driver_index, make_drivers_text, read_drivers
from cumulet_builder.hardware.firmware import Supply, Wanted, judge, read_juicer
from cumulet_builder.modules import make_index
from cumulet_builder.recipe.board import Board

BOARD = {
    "board": "phone",
    "title": "P",
    "architecture": "arm64",
    "compatibles": ["acme,phone"],
    "kernel": {"package": "linux-image-arm64"},
    "storage": {"controllers": ["acme,ufs"]},
    "without": [
        {"drivers": ["acme,sound"], "why": "a node plays no sound"},
        {"firmware": ["acme/spare*"], "why": "nobody needs it"},
    ],
}
NODES = {
    "/": {"compatible": ["acme,phone", "acme,chip"]},
    "/cpus": {},
    "/cpus/cpu@0": {"compatible": "acme,core"},
    "/clocks": {"compatible": "acme,clocks", "phandle": 1, "#clock-cells": 0},
    "/ufs": {"compatible": ["acme,phone-ufs", "acme,ufs"], "clocks": 1, "vcc-supply": 2},
    "/power": {"compatible": "acme,power"},
    "/power/ldo": {"phandle": 2},
    "/dsp": {"compatible": "acme,dsp", "firmware-name": "acme/dsp.mbn"},
    "/bluetooth": {"compatible": "qcom,wcn3990-bt", "firmware-name": "phone/bt.bin"},
    "/sound": {"compatible": "acme,sound"},
    "/dsp/part": {"compatible": "acme,dsp-part"},
}
ALIASES = b"""\
alias of:N*T*Cacme,ufs ufs_acme
alias of:N*T*Cacme,ufsC* ufs_acme
alias of:N*T*Cacme,power acme-power
alias of:N*T*Cacme,dsp dsp
alias of:N*T*Cqcom,wcn3990-btC* bt
alias platform:snd-acme snd_acme
"""
DEP = b"""\
kernel/ufs_acme.ko: kernel/ufshcd_core.ko kernel/scsi_mod.ko
kernel/ufshcd_core.ko: kernel/scsi_mod.ko
kernel/scsi_mod.ko:
kernel/sd_mod.ko: kernel/scsi_mod.ko
kernel/acme-power.ko:
kernel/dsp.ko:
kernel/bt.ko:
kernel/snd_acme.ko:
"""
CHAINS = {"ufs_acme": ("scsi_mod", "ufshcd_core", "ufs_acme"), "acme_power": ("acme_power",)}
ENOUGH = {"ufs_acme", "ufshcd_core", "scsi_mod", "sd_mod", "acme_power"}
OWNERS = {"/usr/lib/firmware/qca/phone/bt.bin.xz": "firmware-acme"}


def tree_of(nodes: dict[str, dict[str, object]] | None = None) -> DeviceTree:
    return read_device_tree(make_dtb(nodes or NODES), "acme/phone.dtb")  # type: ignore[arg-type]


def index_of(tree: DeviceTree) -> DriverIndex:
    image = b"kernel\0acme,clocks\0more\0not acme,power\0"
    made = make_driver_index(make_index({"modules.alias": ALIASES, "modules.dep": DEP}), image, [tree])
    return read_drivers(make_drivers_text(made))


def image_of(tree: DeviceTree) -> Image:
    supply = Supply(OWNERS, frozenset({"acme/dsp.mbn"}), Board.model_validate(BOARD).without)
    modules = {"ufs_acme": b"", "acme_power": b"", "dsp": b"text\0acme,dsp-part\0", "bt": b""}
    return Image(index_of(tree), modules, CHAINS, ENOUGH, {"bt": ["acme/maybe.bin", "acme/spare1.bin"]}, supply)


def problems(
    nodes: dict[str, dict[str, object]] | None = None, board: dict[str, object] | None = None, **changes: object
) -> list[str]:
    tree = tree_of(nodes)
    made = Board.model_validate({**BOARD, **(board or {})})
    image = replace(image_of(tree), **changes)  # type: ignore[arg-type]
    verdict = judge_board(made, [tree], image)
    return [str(each) for each in find_problems(made, [tree], verdict, image.initramfs)]


def test_every_device_has_its_driver_and_every_file_its_source() -> None:
    tree = tree_of()
    board = Board.model_validate(BOARD)
    verdict = judge_board(board, [tree], image_of(tree))
    assert {each.path: (each.state, each.names) for each in verdict.drivers} == {
        "/clocks": ("built in", ()),
        "/ufs": ("module", ("ufs_acme",)),
        "/power": ("module", ("acme_power",)),
        "/dsp": ("module", ("dsp",)),
        "/bluetooth": ("module", ("bt",)),
        "/sound": ("without", ()),
        "/dsp/part": ("inside", ("dsp",)),
    }
    assert [(each.wanted.name, each.state, each.source) for each in verdict.firmware] == [
        ("acme/dsp.mbn", "from the board", "droid-juicer"),
        ("qca/phone/bt.bin", "in the image", "firmware-acme"),
        ("acme/maybe.bin", "missing", ""),
        ("acme/spare1.bin", "without", "nobody needs it"),
    ]
    assert [(each.module, each.device) for each in verdict.needs] == [
        ("ufs_acme", "/ufs"),
        ("acme_power", "/power"),
        ("sd_mod", "/ufs"),
    ]
    assert problems() == []
    document = make_document(board, verdict)
    assert document["board"] == "phone"
    assert {"name": "acme/maybe.bin", "asked by": "bt", "certain": False, "state": "missing", "source": ""} in list(
        document["firmware"]  # type: ignore[call-overload]
    )


def test_a_device_tree_of_another_board_is_refused() -> None:
    other = {**NODES, "/": {"compatible": ["acme,tablet", "acme,chip"]}}
    assert problems(other) == [
        "board phone: the device tree acme/phone.dtb is of 'acme,tablet', and the board is acme,phone\n"
        "  name the right one in the board's kernel.device_trees"
    ]


def test_a_device_tree_without_the_storage_is_refused() -> None:
    other = {**NODES, "/ufs": {**NODES["/ufs"], "status": "disabled"}}
    assert problems(other) == [
        "board phone: the device tree acme/phone.dtb has no storage that is switched on of acme,ufs\n"
        "  correct the board's storage.controllers"
    ]


def test_an_initramfs_that_cannot_reach_the_root_is_refused_with_the_reason() -> None:
    assert problems(initramfs=ENOUGH - {"acme_power", "sd_mod"}) == [
        "board phone: the initramfs lacks acme_power, the driver of /power: vcc-supply of /ufs\n"
        "  add it to the board's kernel.initramfs_modules",
        "board phone: the initramfs lacks sd_mod, the driver of /ufs: disks of the storage /ufs\n"
        "  add it to the board's kernel.initramfs_modules",
    ]


def test_a_driver_that_the_kernel_has_and_the_image_has_not_is_told() -> None:
    assert problems(modules={"ufs_acme": b"", "acme_power": b"", "dsp": b"acme,dsp-part\0"}) == [
        "board phone: the driver of /bluetooth (qcom,wcn3990-bt) is not in the image: bt\n"
        "  add it to the board's kernel.modules, or say in its `without` why it is not needed"
    ]


def test_a_device_that_no_driver_is_for_is_told() -> None:
    other = {**NODES, "/camera": {"compatible": "acme,camera"}}
    assert problems(other) == [
        "board phone: this kernel has no driver for /camera (acme,camera)\n"
        "  say in the board's `without` why it is not needed, or name another kernel package"
    ]


def test_firmware_that_nobody_has_is_told() -> None:
    tree = tree_of()
    supply = Supply(OWNERS, frozenset(), ())
    assert problems(supply=supply) == [
        "board phone: firmware acme/dsp.mbn is in no package of the image, and /dsp asks for it\n"
        "  add its package to firmware_packages and its name to firmware, or say in `without` why not"
    ]
    assert tree.enabled("/dsp")


def test_what_the_extractor_takes_is_read_from_its_own_settings() -> None:
    text = """
[juicer]
firmware = [
  { partition = "modem", origin = "image", destination = "acme/chip", files = [
      { name = "adsp.mdt" }, { name = "adspr.jsn" } ] },
  { partition = "vendor", origin = "firmware", destination = "acme", files = [
      { name = "yupik_ipa.mdt", rename = "ipa.mdt" } ] },
]
"""
    assert read_juicer(text) == {"acme/chip/adsp.mbn", "acme/chip/adspr.jsn", "acme/ipa.mbn"}
    assert read_juicer("") == frozenset()


@pytest.mark.parametrize(
    ("name", "path", "there"),
    [
        ("a/b.bin", "a/b.bin", True),
        ("a/b.bin", "a/b.bin.zst", True),
        ("a/b.bin", "a/b.bin2", False),
        ("a/b*.bin", "a/b7.bin.xz", True),
    ],
)
def test_a_packed_file_is_the_file(name: str, path: str, there: bool) -> None:
    found = judge([Wanted(name, "m", True)], Supply({f"/usr/lib/firmware/{path}": "p"}, frozenset(), ()))
    assert (found[0].state == "in the image") is there


def test_a_device_tree_wins_over_a_module_that_asks_for_the_same() -> None:
    both = [Wanted("x", "module", False), Wanted("x", "/node", True)]
    assert [each.wanted.asker for each in judge(both, Supply({}, frozenset(), ()))] == ["/node"]
