"""The same lock gives the same bytes, whoever builds, wherever, and from wherever the packages come."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

pytestmark = [pytest.mark.build, pytest.mark.usefixtures("need_root")]

FORMATS = ("--set", "formats=[disk, blockmap, tar, oci]")
DISK = {"disk.img", "disk.bmap", "vmlinuz", "initrd.img", "cmdline.txt"}
DOCUMENTS = {"lock.json", "manifest.json", "sbom.cdx.json", "sha256sums", "sizes.txt", "sizes.html"}
IMAGE = {"image.json", "board.json", "root.tar.zst", "root.oci.tar"}


def assert_nothing_left(folder: Path, left_behind) -> None:
    """After a command in a closed world: the same mounts as before, an empty /tmp, nothing running or half made."""
    assert (folder / "mounts-after").read_text() == (folder / "mounts-before").read_text()
    assert (folder / "tmp").read_text() == ""
    assert left_behind(folder) == []


def test_two_builds_of_one_lock_are_bit_identical(store, space, closed, published, left_behind) -> None:
    """One as root; one on one processor, at another place, hour and language, with another mask, from a vendored
    store and without any mirror. Nothing is written but cache and images, and nothing is left mounted or running."""
    here = closed("plain", store.options("base-arm64"))
    folder = space / "a strange place"
    (folder / "temporary").mkdir(parents=True)
    one = str(min(os.sched_getaffinity(0)))
    words = ("taskset", "--cpu-list", one, "sh", "-c", 'umask 077; exec "$@"', "sh")
    env = {"TZ": "Pacific/Chatham", "LANG": "tr_TR.UTF-8", "TMPDIR": f"{folder}/temporary", "SOURCE_DATE_EPOCH": "1"}
    there = replace(here, folder=folder, start=words, env=env, cwd=folder)
    both = [builder.open("build", "base-arm64", *FORMATS) for builder in (here, there)]
    for process in both:
        said = process.communicate(timeout=600)[1]
        assert process.returncode == 0, said

    first, second = published(here.out / "base-arm64"), published(there.out / "base-arm64")
    assert set(first) == DISK | DOCUMENTS | IMAGE
    assert second == first
    assert_nothing_left(here.folder, left_behind)
    assert left_behind(folder) == []
    assert list((folder / "temporary").iterdir()) == []


@pytest.fixture(scope="module")
def user(closed, store):
    """The image for amd64, built from nothing by an ordinary user."""
    made = closed("user", store.options("base-amd64"), user=True)
    made.run("build", "base-amd64")
    return made


def test_an_ordinary_user_builds_the_same_image_as_root(user, amd64, published, left_behind, need) -> None:
    need("newuidmap")
    image = user.out / "base-amd64"
    assert published(image) == published(amd64.out / "base-amd64")
    assert (image / "disk.img").stat().st_uid == 61234
    assert_nothing_left(user.folder, left_behind)
    assert list((user.folder / "home").iterdir()) == []


def test_an_ordinary_user_may_have_the_root_as_a_folder_and_replace_it(user, left_behind, need) -> None:
    """Its files have owners whose files the user may neither copy nor remove without a namespace."""
    need("newuidmap")
    root = user.out / "base-amd64/root"
    for compression in ("zstd", "none"):
        folder = ("--set", "formats=[directory]", "--set", "size_budget.root=100MiB")
        user.run("build", "base-amd64", *folder, "--set", f"disk.compression={compression}")
        assert (root / "etc/passwd").stat().st_uid == 61234
        assert (root / "var/lib/systemd/network").stat().st_uid == 700000 + 998 - 1
        assert (root / "usr/bin/chage").stat().st_mode & 0o7777 == 0o2755
        assert_nothing_left(user.folder, left_behind)
