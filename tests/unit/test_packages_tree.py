"""Packages in their places: unpacked whole or not at all, proved by digest, and the request that does it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.packages import COMMAND, make_bundle
from cumulet.packages.device.tree import Home, digest_tree, unpack

Shop = Any  # of conftest.py
Need = Callable[[str], str]
CHUNK = 1 << 20
MEMBERS = {
    "bin/tool": b"#!/bin/sh\n",
    "share/text": b"text" * 500_000,
    "bin/again": "tool",
    "python3": "/usr/bin/python3",
}


def write_tar(path: Path, members: dict[str, bytes | str] = MEMBERS, mode: str = "w:") -> Path:  # type: ignore[assignment]
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                archive.addfile(info)
            else:
                info.size, info.mode, info.uid = len(content), 0o4775 if "bin/" in name else 0o664, 1234
                archive.addfile(info, io.BytesIO(content))
    return path


def make_package(top: Path, file: Path, kind: str, tree: str = "") -> dict[str, Any]:
    """A package whose blob is there."""
    data = file.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    blob = top / "blobs" / sha256
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    return {"name": "a", "kind": kind, "sha256": sha256, "tree": tree or sha256}


@pytest.mark.parametrize("mode", ["w:", "w:gz", "w:xz"])
def test_a_tree_is_the_same_however_its_archive_was_packed(tmp_path: Path, mode: str) -> None:
    for name, each in (("plain", "w:"), ("packed", mode)):
        unpack(write_tar(tmp_path / f"{name}.tar", mode=each), tmp_path / name)
    assert digest_tree(tmp_path / "plain") == digest_tree(tmp_path / "packed")
    assert (tmp_path / "packed/bin/tool").stat().st_mode & 0o7777 == 0o755
    assert (tmp_path / "packed/bin/tool").stat().st_uid == os.getuid()
    assert (tmp_path / "packed/python3").readlink() == Path("/usr/bin/python3")


def test_zstd_is_read_without_a_module_or_a_program_of_it(tmp_path: Path, need: Need) -> None:
    plain = write_tar(tmp_path / "plain.tar")
    subprocess.run([need("zstd"), "-q", plain], check=True)
    unpack(plain, tmp_path / "plain")
    unpack(tmp_path / "plain.tar.zst", tmp_path / "packed")
    assert digest_tree(tmp_path / "plain") == digest_tree(tmp_path / "packed")
    (tmp_path / "half.tar.zst").write_bytes((tmp_path / "plain.tar.zst").read_bytes()[:-200])
    with pytest.raises(TargetError):
        unpack(tmp_path / "half.tar.zst", tmp_path / "half")


@pytest.mark.parametrize("change", ["content", "name", "link", "program", "more"])
def test_whatever_changes_in_a_tree_changes_its_digest(tmp_path: Path, change: str) -> None:
    unpack(write_tar(tmp_path / "a.tar"), tmp_path / "a")
    before = digest_tree(tmp_path / "a")
    match change:
        case "content":
            (tmp_path / "a/share/text").write_bytes(b"Text" * 500_000)
        case "name":
            (tmp_path / "a/share/text").rename(tmp_path / "a/share/Text")
        case "link":
            (tmp_path / "a/bin/again").unlink()
            (tmp_path / "a/bin/again").symlink_to("other")
        case "program":
            (tmp_path / "a/share/text").chmod(0o755)
        case _:
            (tmp_path / "a/more").mkdir()
    assert digest_tree(tmp_path / "a") != before


@pytest.mark.parametrize("name", ["../outside", "link/outside"])
def test_nothing_is_written_outside_of_the_folder(tmp_path: Path, name: str) -> None:
    file = write_tar(tmp_path / "a.tar", {"link": "..", name: b"x"})
    with pytest.raises(TargetError, match="cannot be unpacked"):
        unpack(file, tmp_path / "a")
    assert not (tmp_path / "outside").exists()


def test_a_device_file_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:") as archive:
        info = tarfile.TarInfo("disk")
        info.type = tarfile.BLKTYPE
        archive.addfile(info)
    with pytest.raises(TargetError, match="nothing else"):
        unpack(tmp_path / "a.tar", tmp_path / "a")


@pytest.mark.parametrize("kind", ["files", "model"])
def test_a_package_is_put_in_its_place_once_and_again_when_somebody_has_changed_it(tmp_path: Path, kind: str) -> None:
    home, file = Home(tmp_path / "top"), write_tar(tmp_path / "a.tar")
    unpack(file, tmp_path / "tree")
    package = make_package(tmp_path / "top", file, kind, digest_tree(tmp_path / "tree") if kind == "files" else "")
    path = home.place(package)
    assert not home.have(path, package["tree"])
    for _ in range(2):
        home.install(package)
        assert home.have(path, package["tree"])
        assert home.is_current(package)
        assert sorted(each.name for each in path.parent.iterdir()) == sorted([path.name, "current"])
    victim = path / "share/text" if kind == "files" else path
    before = victim.stat().st_ino
    home.install(package)
    assert victim.stat().st_ino == before
    if kind == "files":
        victim.write_bytes(b"Text" * 500_000)
        assert not home.have(path, package["tree"])
        home.install(package)
        assert victim.read_bytes() == b"text" * 500_000


def test_a_tree_whose_archive_is_another_than_it_should_be_is_not_put_in_place(tmp_path: Path) -> None:
    home, file = Home(tmp_path / "top"), write_tar(tmp_path / "a.tar")
    package = make_package(tmp_path / "top", file, "files", "0" * 64)
    with pytest.raises(TargetError, match="not what the signed index says"):
        home.install(package)
    assert not home.place(package).exists()
    assert not home.is_current(package)


def test_a_tree_that_was_half_unpacked_when_the_power_went_is_not_taken_for_whole(tmp_path: Path) -> None:
    home, file = Home(tmp_path / "top"), write_tar(tmp_path / "a.tar")
    unpack(file, tmp_path / "tree")
    package = make_package(tmp_path / "top", file, "files", digest_tree(tmp_path / "tree"))
    half = home.place(package).parent / f".new-{package['sha256']}"
    half.mkdir(parents=True)
    (half / "half").write_text("half")
    home.install(package)
    assert home.have(home.place(package), package["tree"])
    assert not half.exists()


class Device:
    """The device's part as it runs on one: its own Python, told everything over its input."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def start(self, verb: str, **request: Any) -> subprocess.Popen[bytes]:
        values = {"verb": verb, "home": str(self.top), "login": "", "seconds": 5, "patience": 5, "pause": 0.01}
        # -S: no site packages either, so that nothing but the standard library can be used.
        process = subprocess.Popen(
            [sys.executable, "-S", *COMMAND[1:]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert process.stdin is not None
        process.stdin.write(make_bundle() + json.dumps(values | request).encode() + b"\n")
        process.stdin.flush()
        return process

    def ask(self, verb: str, **request: Any) -> dict[str, Any]:
        process = self.start(verb, **request)
        assert process.stdout is not None
        # Its input stays open until it has ended: the end of it would tell that nobody is there any more.
        out = process.stdout.read()
        assert process.communicate(timeout=20) == (b"", b"")
        answer: dict[str, Any] = json.loads(out.splitlines()[-1])
        return answer


@pytest.fixture
def device(tmp_path: Path) -> Device:
    return Device(tmp_path / "top")


def make_model(folder: Path, data: bytes) -> dict[str, Any]:
    """A package in a store."""
    sha256 = hashlib.sha256(data).hexdigest()
    path = folder / "blobs/sha256" / sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    chunks = [hashlib.sha256(data[at : at + CHUNK]).hexdigest() for at in range(0, len(data), CHUNK)]
    names = {"name": "m", "kind": "model", "sha256": sha256, "tree": sha256}
    return names | {"size": len(data), "chunk": CHUNK, "chunks": chunks}


def test_a_device_is_told_everything_and_needs_only_the_standard_library(
    tmp_path: Path, device: Device, shop: Callable[..., Shop]
) -> None:
    package = make_model(tmp_path / "store", bytes(range(256)) * 2000)
    store = shop(tmp_path / "store")
    nothing = {"blobs": [], "parts": {}, "placed": [], "others": []}
    assert device.ask("look", packages=[package]) == {"done": nothing}
    assert device.ask("bring", packages=[package], sources=[store.url], listen=None) == {"done": {}}
    assert device.ask("look", packages=[package]) == {"done": nothing | {"blobs": [package["sha256"]]}}
    assert device.ask("install", packages=[package]) == {"done": {}}
    assert device.ask("drop", names=[package["sha256"]]) == {"done": {}}
    assert device.ask("look", packages=[package]) == {"done": nothing | {"placed": [package["sha256"]]}}
    assert (device.top / "models/m/current").read_bytes() == bytes(range(256)) * 2000
    assert store.sent == package["size"]


def test_a_program_that_is_killed_at_any_byte_leaves_nothing_that_is_wrong(
    tmp_path: Path, device: Device, shop: Callable[..., Shop]
) -> None:
    package = make_model(tmp_path / "store", os.urandom(5 * CHUNK + 7))
    store = shop(tmp_path / "store")
    running: list[subprocess.Popen[bytes]] = []
    for at in (CHUNK, 2_500_000, 4_000_001):
        store.at[at] = lambda: not os.kill(running[-1].pid, signal.SIGKILL)
        process = device.start("bring", packages=[package], sources=[store.url], listen=None)
        running.append(process)
        process.wait(timeout=20)
        process.communicate()
        assert (device.top / "blobs" / f"{package['sha256']}.part").exists()
    assert device.ask("bring", packages=[package], sources=[store.url], listen=None) == {"done": {}}
    assert device.ask("look", packages=[package])["done"]["blobs"] == [package["sha256"]]
    assert store.sent <= package["size"] + 3 * CHUNK


def test_what_a_left_over_program_holds_is_taken_from_it(
    tmp_path: Path, device: Device, shop: Callable[..., Shop]
) -> None:
    package = make_model(tmp_path / "store", bytes(1 << 20))
    store = shop(tmp_path / "store")
    old = device.start("bring", packages=[package], sources=[store.url], listen=["127.0.0.1", 0, "secret", 1])
    assert old.stdout is not None
    while b"done" not in old.stdout.readline():
        pass
    assert device.ask("drop", names=["nothing"]) == {"done": {}}
    old.communicate(timeout=5)
    assert old.returncode == -signal.SIGTERM


def test_a_program_that_nobody_talks_to_ends(device: Device) -> None:
    silent = device.start("bring", packages=[], sources=[], listen=["127.0.0.1", 0, "secret", 1], silence=0.1)
    silent.wait(timeout=5)
    silent.communicate()
    gone = device.start("bring", packages=[], sources=[], listen=["127.0.0.1", 0, "secret", 1])
    gone.communicate(timeout=5)  # closes its input
    assert (silent.returncode, gone.returncode) == (4, 4)


def test_a_store_that_cannot_be_reached_is_an_error_unless_an_index_was_kept(tmp_path: Path, device: Device) -> None:
    answer = device.ask("index", source="http://127.0.0.1:9/store")
    assert answer["error"].startswith("127.0.0.1:9: ")
    for name in ("index.json", "index.json.sig"):
        (tmp_path / "top/blobs").mkdir(parents=True, exist_ok=True)
        (tmp_path / "top/blobs" / name).write_text(name)
    answer = device.ask("index", source="http://127.0.0.1:9/store")["done"]
    assert set(answer) == {"kept", "reason"}
