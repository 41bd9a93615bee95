"""What tools, boot loader and init are given, compared with files that a person has read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cumulet_builder import initramfs
from cumulet_builder.formats import blockmap, bootimg, data, esp, growth, root
from cumulet_builder.formats.check import problems_of_menu
from cumulet_builder.formats.inputs import DiskInputs
from cumulet_builder.formats.layout import make_layout, make_sfdisk_script
from cumulet_builder.recipe.board import Android, Boot, Storage
from cumulet_builder.recipe.model import Disk
from cumulet_builder.tree import Tree

DATA = Path(__file__).parent / "test_formats_data"


@pytest.fixture
def inputs() -> DiskInputs:
    """The parts of a small image for arm64."""
    return DiskInputs(
        image="edge-node",
        architecture="arm64",
        seed="edge-node/0123",
        version="6.12.117",
        epoch=1700000000,
        sizes=Disk(esp="160MiB", root="320MiB", data="640MiB"),
        root=Path("/in/root.erofs"),
        root_tree=Path("/in/root.tar"),
        data_tree=Path("/in/data.tar"),
        kernel=Path("/in/vmlinuz"),
        initramfs=Path("/in/initrd.img"),
        device_trees=Path("/in/dtbs.tar"),
        boot_loader=Path("/in/loader.efi"),
        command_line=("console=ttyAMA0", "quiet"),
    )


def expect(name: str, text: str) -> None:
    assert text == (DATA / name).read_text()


def test_partition_table(inputs: DiskInputs) -> None:
    expect("sfdisk.txt", make_sfdisk_script(inputs.layout))


def test_partition_types_follow_the_architecture() -> None:
    expect("sfdisk-amd64.txt", make_sfdisk_script(make_layout(Disk(esp="64MiB"), "amd64", "other")))


def test_partition_tables_of_boards(inputs: DiskInputs) -> None:
    phone = replace(inputs, boot=Boot(method="android"), storage=Storage(sector_size=4096, inside="userdata"))
    expect("sfdisk-phone.txt", make_sfdisk_script(phone.layout))
    board = replace(inputs, boot=Boot(method="extlinux"), storage=Storage(start="16MiB"))
    expect("sfdisk-extlinux.txt", make_sfdisk_script(board.layout))


def test_menu_of_u_boot(inputs: DiskInputs) -> None:
    trees = ["/allwinner/sun50i-a64-pinephone-1.1.dtb", "/allwinner/sun50i-a64-pinephone-1.2.dtb"]
    text = esp.make_menu(inputs, ["root-b", "root-a"], trees)
    expect("extlinux.conf", text)
    files = {f"/{slot}/{name}": "" for slot in ("root-a", "root-b") for name in ("vmlinuz", "initrd.img")}
    files |= {f"/{slot}/dtbs{trees[0]}": "" for slot in ("root-a", "root-b")}
    assert problems_of_menu(text, files, ("root-a", "root-b")) == []


def test_command_of_a_boot_image() -> None:
    files = (Path("/in/kernel"), Path("/in/initrd.img"), Path("/in/board.dtb"))
    for name, android in {
        "mkbootimg-0.txt": Android(),
        "mkbootimg-2.txt": Android(header_version=2, dtb_offset="0x01f00000", second_offset="0x00000000"),
    }.items():
        expect(name, "\n".join(bootimg.make_arguments(android, files, "quiet", Path("/out/boot.img"))) + "\n")


def test_boot_entry(inputs: DiskInputs) -> None:
    expect("root-a.conf", esp.make_entry(inputs, "root-a", []))


def test_boot_entry_of_a_board_with_one_device_tree(inputs: DiskInputs) -> None:
    expect("root-b-dtb.conf", esp.make_entry(inputs, "root-b", ["/qcom/sdm845-oneplus-enchilada.dtb"]))


def test_commands_that_make_file_systems(inputs: DiskInputs) -> None:
    content = esp.make_esp(inputs, Tree())
    options = root.RootOptions("lz4hc", inputs.identifier("root"), inputs.epoch)
    commands = [
        root.make_arguments(inputs.root_tree, inputs.root, options),
        data.make_arguments(inputs, Path("/in/data.tar"), Path("/out/data.img")),
        esp.make_format_arguments(inputs, Path("/out/esp.img")),
        *esp.make_copy_arguments(content, Path("/out/esp"), Path("/out/esp.img")),
    ]
    expect("commands.txt", "".join(" ".join(words) + "\n" for words in commands))


def test_init_script() -> None:
    choice = initramfs.InitramfsChoice("edge-node")
    expect("init.sh", initramfs.make_script(choice, ["virtio_blk.ko", "erofs.ko", "ext4.ko", "overlay.ko"]))


def test_init_script_of_a_phone() -> None:
    choice = initramfs.InitramfsChoice("edge-node", inside="userdata", sector=4096)
    expect("init-phone.sh", initramfs.make_script(choice, ["loop.ko", "ufs_qcom.ko"]))


def test_growing_the_data_partition() -> None:
    tree = growth.make_growth_tree()
    text = "".join(
        f"== {path} -> {node.target}\n" if node.kind == "link" else f"== {path}\n{tree.read(path).decode()}"
        for path, node in tree.walk()
    )
    expect("growth.txt", text)


def test_block_map() -> None:
    ranges = [(0, 255, "a" * 64), (300, 300, "b" * 64)]
    expect("disk.bmap", blockmap.make_map(512 * 4096, ranges))
