"""Where things lie on a disk, and what of it is stored."""

from __future__ import annotations

import hashlib
import os
import re
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
from disk_inputs import make_disk_inputs

from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.formats import blockmap, data, disk, esp, root
from cumulet_builder.formats.inputs import DiskInputs
from cumulet_builder.formats.layout import make_layout, make_uuid
from cumulet_builder.recipe.model import Disk
from cumulet_builder.tree import Tree

MIB = 1 << 20
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def inputs(tmp_path: Path) -> DiskInputs:
    """The parts of a small image; each is a file with a little content."""
    return make_disk_inputs(tmp_path, sizes=Disk(esp="64MiB", root="32MiB", data="16MiB"))


def test_partitions_lie_one_after_another_on_whole_mebibytes() -> None:
    layout = make_layout(Disk(esp="64MiB", root="33000KiB", data="1MiB"), "arm64", "edge")
    assert [(each.name, each.start // MIB, each.size // MIB) for each in layout.partitions] == [
        ("esp", 1, 64),
        ("root-a", 65, 33),
        ("root-b", 98, 33),
        ("data", 131, 1),
    ]
    assert layout.size == 133 * MIB


def test_identifiers_depend_on_the_image_alone_and_are_all_different() -> None:
    small, large = (make_layout(Disk(root=size), "arm64", "edge") for size in ("300MiB", "400MiB"))
    assert [each.identifier for each in small.partitions] == [each.identifier for each in large.partitions]
    assert small.identifier == large.identifier
    assert len({small.identifier, *(each.identifier for each in small.partitions)}) == 5
    assert make_layout(Disk(), "arm64", "other").identifier != small.identifier
    assert make_uuid("edge", "root") == make_uuid("edge", "root") != make_uuid("edge", "data")


def test_a_root_that_does_not_fit_is_an_error_with_a_size_that_would_do(inputs: DiskInputs) -> None:
    disk.check_root_fits(inputs)
    os.truncate(inputs.root, 40 * MIB)
    with pytest.raises(UsageError) as caught:
        disk.check_root_fits(inputs)
    assert caught.value.message == "disk.root: the root file system takes 40.0 MiB and the partition has 32MiB"
    assert caught.value.hint == "disk: {root: 51MiB}"


def test_the_end_of_the_content_is_the_end_of_its_block(tmp_path: Path) -> None:
    path = tmp_path / "esp.img"
    path.write_bytes(b"\0" * 5000 + b"x" + b"\0" * (3 * MIB))
    assert disk.probe_end(path) == 8192
    path.write_bytes(b"\0" * MIB)
    assert disk.probe_end(path) == 0


def test_ranges_are_copied_with_their_zeros_and_nothing_between_them_is_stored(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a" * 4096 + b"\0" * 4096 + b"b" * (MIB - 8192))
    with target.open("wb") as stream:
        stream.truncate(4 * MIB)
        disk.copy_ranges(source, stream.fileno(), MIB, [(0, 8192), (MIB - 4096, MIB)])
    assert blockmap.probe_ranges(target) == [
        (256, 257, hashlib.sha256(b"a" * 4096 + b"\0" * 4096).hexdigest()),
        (511, 511, hashlib.sha256(b"b" * 4096).hexdigest()),
    ]


def test_a_file_that_ends_inside_its_last_block_is_filled_up_with_zeros(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(b"a" * 100)
    with target.open("wb") as stream:
        disk.copy_ranges(source, stream.fileno(), 0, [(0, 4096)])
    assert target.read_bytes() == b"a" * 100 + b"\0" * 3996


def test_the_block_map_has_the_checksum_of_itself_with_zeros_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(MIB)
        stream.write(b"x" * 5000)
    text = blockmap.make_map(MIB, blockmap.probe_ranges(path))
    (own,) = re.findall(r"<BmapFileChecksum> (\w{64}) ", text)
    assert hashlib.sha256(text.replace(own, "0" * 64).encode()).hexdigest() == own
    assert "<MappedBlocksCount> 2 " in text
    assert f'chksum="{hashlib.sha256(b"x" * 5000 + bytes(3192)).hexdigest()}">0-1<' in text


def test_an_empty_disk_has_a_map_without_ranges(tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.touch()
    assert blockmap.probe_ranges(path) == []
    assert "<BlocksCount> 0 " in blockmap.make_map(0, [])
    os.truncate(path, MIB)
    assert blockmap.probe_ranges(path) == []


def test_blocks_in_use_are_all_that_dumpe2fs_does_not_call_free() -> None:
    text = "Group 0\n  Free blocks: 10-19, 30\n  Free inodes: 1-99\nGroup 1\n  Free blocks: 40-49\n"
    assert data.make_used(text, 50 * 4096) == [(0, 40960), (81920, 122880), (126976, 163840)]
    assert data.make_used("", 4096) == [(0, 4096)]


def test_the_boot_entry_is_written_after_everything_that_it_names(inputs: DiskInputs) -> None:
    trees = Tree()
    trees.file("/acme/b.dtb", b"b")
    trees.file("/acme/a.dtb", b"a")
    content = esp.make_esp(inputs, trees, "root-b")
    assert list(content) == [
        "/EFI/BOOT/BOOTAA64.EFI",
        "/loader/loader.conf",
        "/root-b/vmlinuz",
        "/root-b/initrd.img",
        "/root-b/dtbs/acme/a.dtb",
        "/root-b/dtbs/acme/b.dtb",
        "/loader/entries/root-b.conf",
    ]
    entry = bytes(content["/loader/entries/root-b.conf"]).decode()  # type: ignore[arg-type]
    assert "root=PARTLABEL=root-b ro quiet" in entry
    # Firmware that could choose between two device trees describes its board itself.
    assert "devicetree" not in entry
    assert esp.make_entry_name("root-b", 3) == "root-b+3.conf"


@pytest.mark.parametrize(("size", "cluster"), [("160MiB", "4"), ("136MiB", "4"), ("135MiB", "1"), ("34MiB", "1")])
def test_clusters_are_as_large_as_fat32_lets_them_be(inputs: DiskInputs, size: str, cluster: str) -> None:
    sized = replace(inputs, sizes=Disk(esp=size))
    words = esp.make_format_arguments(sized, Path("/out/esp.img"))
    assert words[words.index("-s") + 1] == cluster


def test_a_boot_partition_that_is_too_small_for_its_file_system(inputs: DiskInputs) -> None:
    with pytest.raises(UsageError) as caught:
        esp.make_format_arguments(replace(inputs, sizes=Disk(esp="33MiB")), Path("/out/esp.img"))
    assert (caught.value.message, caught.value.hint) == (
        "disk.esp: 33MiB is too small for FAT32",
        "disk: {esp: 64MiB}",
    )


def test_packing_the_root_is_refused_when_the_disk_could_fill_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """mkfs.erofs would wait for ever."""
    tar = tmp_path / "root.tar"
    tar.touch()
    os.truncate(tar, 50 * MIB)
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(900 * MIB, 800 * MIB, 100 * MIB))
    root.check_room(tar, tmp_path)
    os.truncate(tar, 51 * MIB)
    with pytest.raises(ToolError) as caught:
        root.check_room(tar, tmp_path)
    text = "no space left on this disk: packing takes up to 102 MiB, and 100 MiB are free"
    assert caught.value.message == f"{tmp_path}: {text}"
    assert caught.value.hint == "free some space, or name another folder: --cache"
