"""Things in the cache that have changed since they were made, and mirrors that fail: noticed, told, repaired."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

pytestmark = pytest.mark.build


def flip(content: bytes) -> bytes:
    """The same number of bytes, with one in the middle changed."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def package(lock: Path, start: str) -> dict[str, str]:
    """The package in a lock whose name starts so."""
    return next(each for each in json.loads(lock.read_text())["packages"] if each["name"].startswith(start))


def cached(cache: Path, digest: str) -> Path:
    return cache / "files" / digest[:2] / digest


def test_a_stage_that_was_cut_short_is_made_again(twin, amd64, room, replaced, published) -> None:
    """Also where a link leads to the cache: the tools see its folders under the names that they are told."""
    (room / "link").symlink_to(room)
    builder = replace(twin(), folder=room / "link/../" / room.name / "link")
    file = builder.stage("initramfs") / "initrd.img"
    replaced(file, file.read_bytes()[:-1])
    assert builder.plan("base-amd64") == {"initramfs": "its result is gone from the cache, or damaged"}
    builder.run("build", "base-amd64")
    assert builder.plan("base-amd64") == {}
    assert published(builder.out / "base-amd64") == published(amd64.out / "base-amd64")


def test_a_stage_with_a_changed_byte_is_named_removed_and_then_made_again(twin, amd64, replaced, published) -> None:
    builder = twin("image")
    file = builder.stage("erofs") / "root.erofs"
    replaced(file, flip(file.read_bytes()))
    done = builder.run("build", "base-amd64", code=3)
    assert done.error == f"image: {file}: damaged in the cache"
    assert done.err.endswith("hint: it was removed; run the same command again\n")
    assert not (builder.out / "base-amd64").exists()
    builder.run("build", "base-amd64")
    assert published(builder.out / "base-amd64") == published(amd64.out / "base-amd64")


def test_a_package_with_a_changed_byte_is_fetched_again_before_it_is_opened(
    twin, amd64, store, replaced, published
) -> None:
    builder = twin("initramfs")
    digest = package(store.locks["base-amd64"], "busybox")["sha256"]
    file = cached(builder.cache, digest)
    good = file.read_bytes()
    replaced(file, flip(good))
    builder.run("build", "base-amd64")
    assert file.read_bytes() == good
    assert published(builder.out / "base-amd64") == published(amd64.out / "base-amd64")


def test_a_damaged_store_is_named_with_the_package_and_how_to_mend_it(twin, store, room, replaced) -> None:
    busybox = package(store.locks["base-amd64"], "busybox")
    builder = twin("initramfs")
    file = cached(builder.cache, busybox["sha256"])
    bad = cached(room / "store", busybox["sha256"])
    bad.parent.mkdir(parents=True)
    bad.write_bytes(flip(file.read_bytes()))
    file.unlink()
    options = tuple(word.replace(str(store.folder), str(room / "store")) for word in builder.options)
    done = replace(builder, options=options).run("build", "base-amd64", code=3)
    assert done.error == f"{bad}: not the content of {Path(busybox['path']).name}: wrong checksum"
    assert done.err.endswith(f"hint: vendor it again: cumulet vendor RECIPE --to {room}/store\n")
    assert not file.exists()
    builder.run("build", "base-amd64")


class Mirror(ThreadingHTTPServer):
    """A mirror that has the packages of a lock. `trouble` is what happens to every request: "", "gone", "wrong"."""

    def __init__(self, lock: Path, store: Path) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        packages = json.loads(lock.read_text())["packages"]
        self.files = {f"/debian/{each['path']}": cached(store, each["sha256"]) for each in packages}
        self.trouble = ""
        self.ranges: list[str] = []
        self.cut = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/debian"


class Answer(BaseHTTPRequestHandler):
    """One request."""

    server: Mirror

    def do_GET(self) -> None:
        content = self.server.files[self.path].read_bytes()
        wanted = self.headers.get("Range", "")
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted else 0
        self.server.ranges.append(wanted)
        if self.server.trouble == "gone" and self.server.cut:
            self.close_connection = True
            return
        if self.server.trouble == "wrong":
            content = flip(content)
        self.send_response(206 if wanted else 200)
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.server.trouble == "gone":
            self.server.cut = True
            content = content[: len(content) // 2]
        self.wfile.write(content[start:])
        self.wfile.flush()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(store) -> Iterator[Mirror]:
    with Mirror(store.locks["base-amd64"], store.folder) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def customer(twin, store, mirror):
    """A builder that must fetch one package, from the mirror, for the one stage that it lacks."""
    builder = twin("initramfs")
    cached(builder.cache, package(store.locks["base-amd64"], "busybox")["sha256"]).unlink()
    options = list(builder.options)
    at = options.index("--vendor")
    del options[at : at + 2]
    return replace(builder, options=(*options, "--mirror", mirror.url))


def test_a_mirror_that_goes_away_in_the_middle_is_told_and_the_next_run_goes_on_from_there(
    customer, mirror, amd64, store, published
) -> None:
    busybox = package(store.locks["base-amd64"], "busybox")
    name, half = Path(busybox["path"]).name, int(busybox["size"]) // 2
    mirror.trouble = "gone"
    done = customer.run("build", "base-amd64", code=3)
    assert done.error.startswith(f"{name}: {mirror.url}/{busybox['path']}: ")
    assert done.error.endswith(f"({half} bytes are here)")
    assert "hint: run the same command again: it goes on where it stopped; or name another mirror" in done.err
    assert not (customer.out / "base-amd64").exists()
    mirror.trouble = ""
    mirror.ranges.clear()
    customer.run("build", "base-amd64")
    assert mirror.ranges == [f"bytes={half}-"]
    assert published(customer.out / "base-amd64") == published(amd64.out / "base-amd64")


def test_a_mirror_with_another_content_is_refused_and_a_good_one_is_taken(customer, mirror, store) -> None:
    busybox = package(store.locks["base-amd64"], "busybox")
    mirror.trouble = "wrong"
    done = customer.run("build", "base-amd64", code=3)
    start = f"{Path(busybox['path']).name}: {mirror.url}/{busybox['path']}: wrong checksum: expected sha256 "
    assert done.error.startswith(f"{start}{busybox['sha256']}, got ")
    mirror.trouble = ""
    customer.run("build", "base-amd64")
