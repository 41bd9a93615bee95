"""The linter of finished disks: every fault that would keep one from booting is found, and a good one has none."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet_builder.formats import check
from cumulet_builder.formats.check import Span
from cumulet_builder.formats.layout import TYPE_DATA, TYPE_ESP, TYPE_ROOT

MIB = 1 << 20
TABLE = {
    "esp": Span(1 * MIB, 64 * MIB, TYPE_ESP),
    "root-a": Span(65 * MIB, 32 * MIB, TYPE_ROOT["arm64"]),
    "root-b": Span(97 * MIB, 32 * MIB, TYPE_ROOT["arm64"]),
    "data": Span(129 * MIB, 16 * MIB, TYPE_DATA),
}
ENTRY = "title edge\nlinux /root-a/vmlinuz\ninitrd /root-a/initrd.img\noptions root=PARTLABEL=root-a ro\n"
CONF = "/loader/entries/root-a.conf"
ESP = {
    "/EFI/BOOT/BOOTAA64.EFI": "",
    "/root-a/vmlinuz": "",
    "/root-a/initrd.img": "",
    CONF: ENTRY,
}


def test_a_good_disk_has_no_problems() -> None:
    assert check.problems_of_table(TABLE, 146 * MIB) == []
    assert check.problems_of_esp(ESP, tuple(TABLE)) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"data": None}, "no partition named data"),
        ({"esp": replace(TABLE["esp"], kind=TYPE_DATA)}, f"partition esp has type {TYPE_DATA}, not {TYPE_ESP}"),
        ({"root-b": replace(TABLE["root-b"], start=96 * MIB)}, "partition root-b begins inside the one before it"),
        (
            {"data": replace(TABLE["data"], size=99 * MIB)},
            f"the partitions end at byte {228 * MIB}, after the end of the image at {146 * MIB}",
        ),
    ],
)
def test_a_wrong_partition_table_is_described(change: Mapping[str, Span | None], problem: str) -> None:
    table = {name: span for name, span in {**TABLE, **change}.items() if span is not None}
    assert check.problems_of_table(table, 146 * MIB) == [problem]


@pytest.mark.parametrize(
    ("path", "text", "problem"),
    [
        ("/EFI/BOOT/BOOTAA64.EFI", None, "none of /EFI/BOOT/BOOTAA64.EFI, /EFI/BOOT/BOOTX64.EFI is there"),
        (CONF, None, "no boot entry in /loader/entries"),
        (
            "/root-a/initrd.img",
            None,
            f"{CONF}: initrd names /root-a/initrd.img, which is not there",
        ),
        (CONF, ENTRY.replace("linux", "kernel"), f"{CONF}: no line 'linux'"),
        (
            CONF,
            ENTRY.replace("=root-a", "=root-c"),
            f"{CONF}: root=PARTLABEL=root-c, but no partition has this label",
        ),
        (
            CONF,
            ENTRY.replace("root=PARTLABEL=root-a ", ""),
            f"{CONF}: 0 times root= in its options",
        ),
    ],
)
def test_a_wrong_boot_partition_is_described(path: str, text: str | None, problem: str) -> None:
    files = {name: content for name, content in {**ESP, path: text}.items() if content is not None}
    assert check.problems_of_esp(files, tuple(TABLE)) == [f"partition esp: {problem}"]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A disk with just the numbers by which its file systems are known."""
    path = tmp_path / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(146 * MIB)
        stream.seek(TABLE["root-a"].start + 1024)
        stream.write(make_erofs(blocks=100))
        stream.seek(TABLE["data"].start + 1024)
        stream.write(bytes(56) + struct.pack("<H", 0xEF53) + bytes(62) + b"data".ljust(16, b"\0"))
    return path


def make_erofs(blocks: int) -> bytes:
    """The start of a super block: magic number, 4 KiB blocks, how many."""
    return struct.pack("<I8xB23xI", 0xE0F5E1E2, 12, blocks)


def patch(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as stream:
        stream.seek(offset)
        stream.write(content)


def test_file_systems_are_known_by_their_own_numbers(image: Path) -> None:
    assert check.problems_of_root(image, TABLE["root-a"]) == []
    assert check.problems_of_data(image, TABLE["data"]) == []


def test_a_root_that_is_cut_off_is_found(image: Path) -> None:
    patch(image, TABLE["root-a"].start + 1024, make_erofs(blocks=9000))
    assert check.problems_of_root(image, TABLE["root-a"]) == [
        f"partition root-a: the file system has {9000 * 4096} bytes, the partition {32 * MIB}"
    ]


def test_partitions_without_a_file_system_are_found(image: Path) -> None:
    patch(image, TABLE["root-a"].start + 1024, b"\0")
    patch(image, TABLE["data"].start + 1024 + 56, b"\0")
    assert check.problems_of_root(image, TABLE["root-a"]) == ["partition root-a holds no erofs file system"]
    assert check.problems_of_data(image, TABLE["data"]) == ["partition data holds no ext4 file system"]
    # Also behind the end of a file that was cut short.
    assert check.problems_of_data(image, Span(200 * MIB, MIB, TYPE_DATA)) == [
        "partition data holds no ext4 file system"
    ]


def test_a_data_partition_with_another_label_is_found(image: Path) -> None:
    patch(image, TABLE["data"].start + 1024 + 120, b"dat\0")
    assert check.problems_of_data(image, TABLE["data"]) == ["partition data has the label 'dat', not 'data'"]


class Tools:
    """Answers for a toolbox, by the program's name."""

    def __init__(self, answers: Mapping[str, tuple[int, str]]) -> None:
        self.answers = answers

    def run(self, argv: list[str | Path], **_: object) -> proc.Result:
        code, out = self.answers[str(argv[0])]
        return proc.Result((str(argv[0]),), code, out, "")


def make_answers(**changed: tuple[int, str]) -> dict[str, tuple[int, str]]:
    """What the tools say of a good disk."""
    partitions = [
        {"node": name, "name": name, "start": span.start // 512, "size": span.size // 512, "type": span.kind.lower()}
        for name, span in TABLE.items()
    ]
    dump = json.dumps({"partitiontable": {"sectorsize": 512, "partitions": partitions}})
    files = "".join(f"::{path}\n" for path in ESP) + "::/loader/\n"
    return {"sfdisk": (0, dump), "mdir": (0, files), "mtype": (0, ENTRY), "e2fsck": (0, ""), **changed}


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"sfdisk": (1, "no such table")}, "no partition table: no such table"),
        ({"e2fsck": (4, "")}, "partition data: its file system has errors"),
        ({"mdir": (0, "")}, "partition esp: no boot entry in /loader/entries"),
    ],
)
def test_a_whole_disk_is_asked_with_several_tools(
    image: Path, changed: Mapping[str, tuple[int, str]], problem: str | None
) -> None:
    found = check.problems_of_disk(image, Tools(make_answers(**changed)))  # type: ignore[arg-type]
    messages = [each.message for each in found]
    assert messages == [] if problem is None else problem in messages
    assert {each.file for each in found} <= {str(image)}


def test_a_broken_table_ends_the_questions(image: Path) -> None:
    answers = make_answers(sfdisk=(0, json.dumps({"partitiontable": {"partitions": []}})))
    found = check.problems_of_disk(image, Tools(answers))  # type: ignore[arg-type]
    assert [each.message for each in found] == [f"no partition named {name}" for name in check.NAMES]
