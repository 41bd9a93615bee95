"""What boards add to a disk: boot loaders at raw places, Android's boot image, sparse image and vbmeta."""

from __future__ import annotations

import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet_builder.formats import bootimg, disk, sparse, vbmeta
from cumulet_builder.formats.bootimg import Parts
from cumulet_builder.formats.check import Loader, problems_of_loader, problems_of_menu
from cumulet_builder.formats.inputs import DiskInputs
from cumulet_builder.recipe.board import Android, Boot, Storage
from cumulet_builder.recipe.board import Loader as BoardLoader
from cumulet_builder.recipe.model import Disk
from cumulet_builder.tree import Tree, write_tar

MIB = 1 << 20
WINDOW = 0x01000000 - 0x8000


@pytest.fixture
def inputs(tmp_path: Path) -> DiskInputs:
    """A board with a boot loader of 100 bytes at 32 KiB."""
    path = tmp_path / "u-boot.bin"
    path.write_bytes(b"x" * 100)
    nothing = tmp_path / "nothing"
    nothing.touch()
    return DiskInputs(
        image="edge",
        architecture="arm64",
        seed="edge",
        version="6.12",
        epoch=1_700_000_000,
        sizes=Disk(),
        root=nothing,
        root_tree=nothing,
        data_tree=None,
        kernel=nothing,
        initramfs=nothing,
        device_trees=tmp_path / "dtbs.tar",
        boot_loader=nothing,
        command_line=("quiet",),
        boot=Boot(loader=BoardLoader(offset="32KiB")),
        loader=path,
    )


# Places on the disk.


def test_a_phones_disk_has_no_esp_and_large_sectors(inputs: DiskInputs) -> None:
    phone = replace(inputs, boot=Boot(method="android"), storage=Storage(sector_size=4096))
    assert [each.name for each in phone.layout.partitions] == ["root-a", "root-b", "data"]
    assert phone.layout.place.sector == 4096


def test_a_loader_must_not_reach_into_the_first_partition(inputs: DiskInputs) -> None:
    disk.check_loader_fits(inputs)
    assert inputs.loader is not None
    os.truncate(inputs.loader, 2 * MIB)
    with pytest.raises(UsageError) as caught:
        disk.check_loader_fits(inputs)
    text = f"boot.loader: {2 * MIB} bytes from 32768 on reach into the first partition at {MIB}"
    assert (caught.value.message, caught.value.hint) == (text, "storage.start: 3MiB")
    disk.check_loader_fits(replace(inputs, storage=Storage(start="16MiB")))


def test_a_loader_must_not_lie_over_the_partition_table(inputs: DiskInputs) -> None:
    low = replace(inputs, boot=Boot(loader=BoardLoader(offset="8KiB")))
    with pytest.raises(UsageError) as caught:
        disk.check_loader_fits(low)
    assert caught.value.message == "boot.loader: at byte 8192 it would lie over the partition table"
    assert caught.value.hint == "boot.loader.offset: 17KiB is the first that does not"
    with pytest.raises(UsageError, match="at byte 20480 it would lie over"):
        disk.check_loader_fits(
            replace(low, boot=Boot(loader=BoardLoader(offset="20KiB")), storage=Storage(sector_size=4096))
        )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\0\0\0\0eGON.BT0 and more", []),
        (bytes.fromhex("3b8cdcfcbe9f9d51") + b"and more", []),
        (b"a picture", ["what stands at byte 4096 is no boot loader of Allwinner's, Rockchip's or NXP's chips"]),
    ],
)
def test_a_loader_has_the_mark_that_its_chip_looks_for(tmp_path: Path, content: bytes, problem: list[str]) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"\0" * 4096 + content)
    assert problems_of_loader(image, Loader(content, 4096)) == problem
    assert problems_of_loader(image, Loader(content, 512)) == ["the boot loader is not at byte 512"]


def test_what_is_wrong_with_a_menu_of_u_boot_is_said() -> None:
    text = "default root-a\nlabel root-b\n\tkernel /b/vmlinuz\n\tfdtdir /b/dtbs\n\tappend root=PARTLABEL=root-c ro\n"
    assert problems_of_menu(text, {"/b/vmlinuz": ""}, ("root-a", "root-b")) == [
        "default 'root-a' is no entry",
        "root-b: no line 'initrd'",
        "root-b: fdtdir names /b/dtbs, which is not there",
        "root-b: root=PARTLABEL=root-c, but no partition has this label",
    ]


# Android's formats.


def test_a_kernel_that_fits_its_window_is_no_problem() -> None:
    assert list(bootimg.find_problems(Android(), Parts(WINDOW, 9 * MIB, 0), "quiet")) == []


def test_a_kernel_too_big_for_its_window_is_refused() -> None:
    (problem,) = bootimg.find_problems(Android(), Parts(WINDOW + 1, MIB, 0), "quiet")
    assert problem == (
        "the kernel takes 16744449 bytes, and only 16744448 lie between it and the initramfs",
        "a smaller kernel package, fewer initramfs_modules, or other offsets in the board's boot.android",
    )


def test_an_initramfs_must_not_reach_into_the_separate_device_tree() -> None:
    android = Android(header_version=2, dtb_offset="0x01f00000")
    room = 0x01F00000 - 0x01000000
    assert list(bootimg.find_problems(android, Parts(MIB, room, 100_000), "quiet")) == []
    (problem,) = bootimg.find_problems(android, Parts(MIB, room + 1, 100_000), "quiet")
    assert problem[0] == f"the initramfs takes {room + 1} bytes, and only {room} lie between it and the device tree"


def test_a_command_line_too_long_for_the_header_is_refused() -> None:
    (problem,) = bootimg.find_problems(Android(), Parts(MIB, MIB, 0), "x" * 1536)
    assert problem[0] == "the command line has 1536 bytes, and a boot image holds 1535"


def test_a_boot_image_holds_just_one_device_tree(inputs: DiskInputs) -> None:
    trees = Tree()
    trees.file("/acme/a.dtb", b"a")
    with inputs.device_trees.open("wb") as stream:
        write_tar(trees, stream, 0)
    assert bootimg.load_device_tree(inputs) == b"a"
    trees.file("/acme/b.dtb", b"b")
    with inputs.device_trees.open("wb") as stream:
        write_tar(trees, stream, 0)
    with pytest.raises(UsageError, match=r"boot\.img: it holds one device tree, and the board names 2"):
        bootimg.load_device_tree(inputs)


def test_a_header_that_says_something_else_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "boot.img"
    head = b"ANDROID!" + struct.pack("<9I", 10, 0x8000, 20, 0x01000000, 0, 0, 0x100, 4096, 0)
    image.write_bytes(head.ljust(4096, b"\0"))
    bootimg.refuse_broken(image, Android(), Parts(10, 20, 0))
    with pytest.raises(TargetError) as caught:
        bootimg.refuse_broken(image, Android(page_size=2048), Parts(11, 20, 0))
    assert caught.value.message == "boot.img: kernel is 10, not 11; page size is 4096, not 2048"


def test_verified_boot_is_switched_off_by_one_flag_in_an_empty_header() -> None:
    """The places are those of libavb's AvbVBMetaImageHeader."""
    data = vbmeta.make_vbmeta(2)
    assert len(data) == 4096
    assert data[:12] == b"AVB0\0\0\0\1\0\0\0\0"
    assert data[12:120] == b"\0" * 108
    assert data[120:124] == b"\0\0\0\2"
    assert data[128:135] == b"cumulet"
    assert data[176:] == b"\0" * (4096 - 176)


def test_a_sparse_image_of_another_size_is_refused(tmp_path: Path) -> None:
    image = tmp_path / "disk.simg"
    image.write_bytes(struct.pack("<I4H4I", 0xED26FF3A, 1, 0, 28, 12, 4096, 100, 1, 0))
    sparse.refuse_broken(image, 100 * 4096)
    with pytest.raises(TargetError) as caught:
        sparse.refuse_broken(image, 101 * 4096)
    assert caught.value.message == "disk.simg: 100 blocks of 4096 bytes, and the disk has 413696 bytes"
