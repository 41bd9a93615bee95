"""The initramfs: its archive, its script, its modules in the order they load."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import open_cache
from cumulet_builder.initramfs import InitramfsChoice, make_initramfs, make_script, write_cpio, write_initramfs
from cumulet_builder.plan import Workshop
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Node, Tree

BASE = "/usr/lib/modules/6.12"
MODULES = {
    "virtio_blk": "kernel/drivers/block/virtio_blk.ko:",
    "erofs": "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko",
    "libcrc32c": "kernel/lib/libcrc32c.ko:",
    "ext4": "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko",
    "jbd2": "kernel/fs/jbd2/jbd2.ko:",
    "overlay": "kernel/fs/overlayfs/overlay.ko:",
    "unwanted": "kernel/unwanted.ko:",
}


@pytest.fixture
def kernel() -> Tree:
    tree = Tree()
    tree.file(f"{BASE}/modules.dep", "\n".join(MODULES.values()) + "\n")
    for name, line in MODULES.items():
        tree.file(f"{BASE}/{line.partition(':')[0]}", f"module {name}")
    return tree


def read_cpio(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Name -> mode and content, by the format's own description."""
    found: dict[str, tuple[int, bytes]] = {}
    place = 0
    while True:
        assert data[place : place + 6] == b"070701"
        fields = [int(data[place + 6 + 8 * i : place + 14 + 8 * i], 16) for i in range(13)]
        name = data[place + 110 : place + 110 + fields[11] - 1].decode()
        place += (110 + fields[11] + 3) // 4 * 4
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[place : place + fields[6]])
        place += (fields[6] + 3) // 4 * 4


def test_only_needed_modules_go_in_and_load_in_order(kernel: Tree) -> None:
    tree = make_initramfs(InitramfsChoice("edge", ("virtio-blk",)), kernel, "6.12", b"busybox")
    loaded = [
        line.removeprefix("insmod /modules/").removesuffix(".ko")
        for line in tree.read("/init").decode().splitlines()
        if line.startswith("insmod ")
    ]
    assert set(loaded) == {"virtio_blk", "erofs", "libcrc32c", "ext4", "jbd2", "overlay"}
    assert loaded.index("libcrc32c") < loaded.index("erofs")
    assert loaded.index("jbd2") < loaded.index("ext4")
    assert tree.read("/modules/erofs.ko") == b"module erofs"
    assert "/modules/unwanted.ko" not in tree.nodes


def test_a_module_that_the_image_lacks_is_a_problem(kernel: Tree) -> None:
    with pytest.raises(UsageError) as caught:
        make_initramfs(InitramfsChoice("edge", ("ufs_qcom",)), kernel, "6.12", b"")
    assert caught.value.problems[0].message == "no kernel module 'ufs_qcom'"


def test_the_archive_is_what_the_kernel_unpacks(kernel: Tree) -> None:
    tree = make_initramfs(InitramfsChoice("edge"), kernel, "6.12", b"busybox")
    stream = io.BytesIO()
    write_cpio(tree, stream, 1700000000)
    entries = read_cpio(stream.getvalue())
    assert entries["bin/busybox"] == (0o100755, b"busybox")
    assert entries["bin/mount"] == (0o120777, b"busybox")
    assert entries["dev/console"] == (0o020600, b"")
    assert entries["sysroot"] == (0o040755, b"")
    assert entries["init"][0] == 0o100755
    assert list(entries) == sorted(entries, key=lambda name: name.split("/"))


def test_the_archive_is_the_same_every_time(kernel: Tree) -> None:
    streams = [io.BytesIO(), io.BytesIO()]
    for stream in streams:
        write_cpio(make_initramfs(InitramfsChoice("edge"), kernel, "6.12", b"busybox"), stream, 1)
    assert streams[0].getvalue() == streams[1].getvalue()


def test_a_hard_link_cannot_be_packed() -> None:
    with pytest.raises(ToolError, match="/a: a hard link"):
        write_cpio(Tree({"/a": Node("hardlink", 0o644, target="/b")}), io.BytesIO(), 0)


def test_the_script_is_valid_shell(need: Callable[[str], str], tmp_path: Path) -> None:
    script = tmp_path / "init"
    script.write_text(make_script(InitramfsChoice("edge"), ["a.ko"]))
    proc.run([need("sh"), "-n", script])


def test_every_program_of_the_script_is_in_the_archive(kernel: Tree) -> None:
    tree = make_initramfs(InitramfsChoice("edge"), kernel, "6.12", b"")
    script = tree.read("/init").decode()
    for program in ("mount", "umount", "insmod", "mkdir", "sleep", "switch_root", "reboot", "chroot", "dd"):
        assert f"{program} " in script
        assert tree.nodes[f"/bin/{program}"].target == "busybox"


def test_compression_is_asked_of_the_tool_and_left_out_for_none(tmp_path: Path) -> None:
    commands: list[list[str]] = []

    class FakeTools:
        def run(self, argv: list[str | Path], **_: Any) -> proc.Result:
            commands.append([str(word) for word in argv])
            Path(argv[-1]).write_bytes(b"small")
            return proc.Result((), 0, "", "")

    tree = Tree()
    tree.file("/init", "x")
    for name in ("none", "zstd"):
        folder = tmp_path / name
        folder.mkdir()
        workshop = Workshop(folder, {}, open_cache(tmp_path / "cache"), io.StringIO(), 1)
        write_initramfs(tree, "zstd" if name == "zstd" else "none", cast(Toolbox, FakeTools()), workshop)
    assert (tmp_path / "none/initrd.img").read_bytes().startswith(b"070701")
    assert (tmp_path / "zstd/initrd.img").read_bytes() == b"small"
    assert [words[0] for words in commands] == ["zstd"]
