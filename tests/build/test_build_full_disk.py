"""A disk that fills up while a build works: which stage, what to do, nothing half-made, and on with more room."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("need_root")]


@dataclass(frozen=True)
class SmallDisk:
    """A file system in memory that is mounted on `folder` in a mount namespace of its own, so for nobody else."""

    folder: Path
    holder: int

    @property
    def start(self) -> tuple[str, ...]:
        """Words before a command that is to see the disk."""
        return ("nsenter", f"--mount=/proc/{self.holder}/ns/mnt", "--")

    @property
    def seen(self) -> Path:
        """The disk's files, for those who do not see it mounted."""
        return Path(f"/proc/{self.holder}/root{self.folder}")

    def resize(self, mebibytes: int) -> None:
        """Give it another size."""
        words = [*self.start, "mount", "-o", f"remount,size={mebibytes}m", self.folder]
        subprocess.run(words, check=True)


@pytest.fixture
def disk(room: Path) -> Iterator[SmallDisk]:
    """A disk of 1 MiB."""
    folder = room / "disk"
    folder.mkdir()
    lines = f"mount -t tmpfs -o size=1m,mode=755 none {folder} && echo ready && exec sleep 900"
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private", "sh", "-c", lines]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "ready\n"
        yield SmallDisk(folder, holder.pid)
        holder.kill()


@pytest.fixture
def builder(amd64, disk: SmallDisk):
    """A builder like `amd64` whose cache and images are on the small disk."""
    return replace(amd64, folder=disk.folder, start=disk.start)


def lend(owner, disk: SmallDisk, *stages: str) -> None:
    """Let the cache on the disk have finished stages of another one, which take no room there."""
    (disk.seen / "cache/stages").mkdir(parents=True, exist_ok=True)
    for stage in stages:
        place = disk.seen / "cache/stages" / stage
        shutil.rmtree(place, ignore_errors=True)
        place.symlink_to(owner.cache / "stages" / stage)


def test_a_full_disk_stops_each_stage_with_its_name_and_more_room_lets_it_go_on(
    amd64, builder, disk, published, left_behind
) -> None:
    image = disk.seen / "out/base-amd64"

    def refused(mebibytes: int, place: str) -> None:
        disk.resize(mebibytes)
        done = builder.run("build", "base-amd64", code=3)
        assert done.error.startswith(place), done.err
        assert ": no space left on this disk" in done.error
        assert "hint: free some space, or name another folder: --cache" in done.err
        assert left_behind(disk.seen) == []
        assert not image.exists()

    lend(amd64, disk, "tools", "base", "packages", "kernel", "initramfs", "sdk", "root")
    (disk.seen / "cache/files").symlink_to(amd64.cache / "files")
    refused(60, f"erofs: {builder.cache}/stages/erofs/")
    lend(amd64, disk, "erofs")
    refused(15, f"image: {builder.cache}/")
    refused(110, f"{builder.out}/base-amd64: ")
    disk.resize(1000)
    builder.run("build", "base-amd64")
    assert published(image) == published(amd64.out / "base-amd64")


def test_a_disk_that_fills_up_with_packages_is_a_full_disk_too(amd64, builder, disk, left_behind) -> None:
    lend(amd64, disk, "tools")
    (disk.seen / "cache/files").symlink_to(amd64.cache / "files")
    disk.resize(100)
    done = builder.run("build", "base-amd64", code=3)
    assert done.error.startswith(f"base: {builder.cache}/"), done.err
    assert done.error.endswith("no space left on this disk")
    assert left_behind(disk.seen) == []


def test_a_disk_that_fills_up_while_packages_are_fetched_keeps_what_has_arrived(builder, disk, left_behind) -> None:
    disk.resize(30)
    done = builder.run("build", "base-amd64", code=3)
    assert done.error.startswith(f"{builder.cache}/"), done.err
    assert done.error.endswith("no space left on this disk")
    assert left_behind(disk.seen) == []
    assert any((disk.seen / "cache/files").rglob("*"))
