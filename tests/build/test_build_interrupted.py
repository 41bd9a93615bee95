"""A build that is killed or interrupted leaves nothing half-made in sight, and the next one goes on from there."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.build

# Command lines that tell the moment: packages are configured, a part of the disk is written.
CONFIGURING, WRITING = "--configure --pending", "/stages/image/.tmp-"
Working = Callable[[Path], list[tuple[int, str]]]


def wait_until(what: Callable[[], bool], process: subprocess.Popen[str] | None = None, limit: float = 180.0) -> None:
    """Wait for something, in a build that goes on meanwhile."""
    end = time.monotonic() + limit
    while not what():
        assert process is None or process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.005)


def interrupt(process: subprocess.Popen[str], moment: str, number: int, folder: Path, working: Working) -> str:
    """Send a signal to the build's process group at a moment; returns what the build said."""
    wait_until(lambda: any(moment in line for _, line in working(folder)), process)
    os.killpg(process.pid, number)
    return process.communicate(timeout=60)[1]


def test_a_killed_build_goes_on_where_it_was_cut_and_ends_the_same(
    twin, amd64, working, left_behind, published
) -> None:
    builder = twin("base", "packages", "root", "erofs", "image")
    mounts = Path("/proc/self/mounts").read_text()
    later = {"base", "packages", "root", "erofs", "image"}
    for moment, left_to_do in ((CONFIGURING, later), (WRITING, {"image"})):
        process = builder.open("build", "base-amd64")
        interrupt(process, moment, signal.SIGKILL, builder.folder, working)
        assert process.returncode == -signal.SIGKILL
        wait_until(lambda: working(builder.folder) == [], limit=5)
        assert Path("/proc/self/mounts").read_text() == mounts
        assert not (builder.out / "base-amd64").exists()
        assert set(builder.plan("base-amd64")) == left_to_do
    builder.run("build", "base-amd64")
    assert published(builder.out / "base-amd64") == published(amd64.out / "base-amd64")
    assert left_behind(builder.folder) == []


def test_an_interrupted_build_says_so_and_leaves_nothing(twin, working, left_behind) -> None:
    builder = twin("base")
    mounts = Path("/proc/self/mounts").read_text()
    process = builder.open("build", "base-amd64")
    said = interrupt(process, CONFIGURING, signal.SIGINT, builder.folder, working)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "error: interrupted"
    assert left_behind(builder.folder) == []
    assert Path("/proc/self/mounts").read_text() == mounts
    assert not (builder.out / "base-amd64").exists()
    assert set(builder.plan("base-amd64")) == {"base"}


def test_what_a_build_left_that_was_killed_while_publishing_is_put_right(twin, amd64, left_behind) -> None:
    builder = twin()
    image, half = builder.out / "base-amd64", builder.out / ".tmp-base-amd64-1a2b3c4d"
    shutil.copytree(amd64.out / "base-amd64", image, copy_function=os.link)
    record = (image / "build.json").read_bytes()
    # Killed after it moved the old folder away, and before it moved the new one in.
    image.rename(builder.out / ".old-base-amd64-99999")
    half.mkdir()
    (half / "disk.img").write_bytes(b"half of a disk")
    assert builder.run("build", "base-amd64").out == f"base-amd64: up to date: {image}\n"
    assert (image / "build.json").read_bytes() == record
    assert left_behind(builder.folder) == []


def test_two_builds_at_once_make_a_stage_once_and_do_not_hurt_each_other(twin, amd64, published) -> None:
    builder = twin("initramfs", "image")
    first = builder.open("build", "base-amd64")
    wait_until(lambda: any(builder.cache.glob("stages/initramfs/.tmp-*")), first)
    other = builder.folder / "other"
    second = builder.open("build", "base-amd64", "--out", other)
    refused = builder.run("build", "base-amd64", code=3)
    assert refused.error == f"{builder.out}/base-amd64 is in use by process {first.pid}"
    for process in (first, second):
        said = process.communicate(timeout=300)[1]
        assert process.returncode == 0, said
    assert published(builder.out / "base-amd64") == published(amd64.out / "base-amd64")
    assert published(other / "base-amd64") == published(amd64.out / "base-amd64")
    assert "made by another build meanwhile" in (other / "base-amd64/build.log").read_text()
