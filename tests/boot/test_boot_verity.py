"""A root that is proved by a hash on the kernel's command line: it boots; with one block changed it does not."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from disks import find_partition

from cumulet.core.deadline import Deadline
from cumulet_qemu.machine import Options
from cumulet_qemu.nodefile import make_document
from cumulet_qemu.published import Published, load_published
from cumulet_qemu.vm import VirtualMachine

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1800)]
SECONDS = 600.0
BLOCK = 4096


@pytest.fixture
def published(build: Callable[..., Path]) -> Published:
    """The smallest image, for this computer's own architecture, with a proved root."""
    words = ["--set", "board=qemu-amd64", "--set", "image=base-verity", "--set", "disk.verity=true"]
    return load_published(build("base-amd64", "base-verity", *words))


def test_a_proved_root_boots_and_a_changed_one_does_not(
    published: Published, tmp_path: Path, need: Callable[[str], str]
) -> None:
    need("veritysetup")
    root_hash, blocks, _ = re.search(r"cumulet\.verity=(\S+):(\d+):(\S+)", published.command_line).groups()  # type: ignore[union-attr]
    start, size = find_partition(published.file("disk.img"), "root-a"), int(blocks) * BLOCK
    partition = tmp_path / "root.img"
    with published.file("disk.img").open("rb") as disk, partition.open("wb") as stream:
        disk.seek(start)
        stream.write(disk.read(size + size // 50 + (1 << 20)))
    # Another program than the kernel finds the same: the tree proves the root.
    verify = ["veritysetup", "verify", partition, partition, root_hash, f"--hash-offset={size}"]
    assert subprocess.run(verify, check=False).returncode == 0

    options = Options(node=make_document(published, []))
    with VirtualMachine(published, options) as vm:
        vm.wait_state("running", Deadline.after(SECONDS))
        shell = vm.open_shell(Deadline.after(SECONDS))
        assert shell.check_run("dmsetup table root", Deadline.after(60)).split()[2] == "verity"
        assert shell.check_run("awk '$2 == \"/\" {print $1, $3}' /proc/self/mounts", Deadline.after(60)) in (
            "/dev/dm-0 erofs",
            "/dev/root erofs",
        )
        assert shell.check_run("systemctl --failed --no-legend --plain", Deadline.after(60)) == ""

    folder = tmp_path / "changed"
    shutil.copytree(published.folder, folder)
    with (folder / "disk.img").open("r+b") as disk:
        # The erofs superblock: the first that is read.
        disk.seek(start + 1024 + 64)
        old = disk.read(1)
        disk.seek(-1, 1)
        disk.write(bytes([old[0] ^ 1]))
    changed = replace(published, folder=folder)
    with VirtualMachine(changed, replace(options, arguments=("panic=0",))) as vm:
        line = vm.wait_line(
            re.compile("dm-verity device corrupted|data block 0 is corrupted"), "the refusal", Deadline.after(SECONDS)
        )
        assert line

    bare = replace(published, command_line=re.sub(r" cumulet\.verity=\S+", "", published.command_line))
    with VirtualMachine(bare, options) as vm:
        refusal = "no cumulet.verity= on the kernel command line"
        vm.wait_line(re.compile(re.escape(refusal)), "the refusal", Deadline.after(SECONDS))
