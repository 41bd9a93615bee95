"""What a lock names comes into the cache: from a store, from the mirror, and once."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cumulet.core import files
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder import download
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian import fetch as module
from cumulet_builder.engines.debian.fetch import Sources, fetch, vendor
from cumulet_builder.engines.debian.lock import Lock, LockedPackage, LockedWheel, Request
from cumulet_builder.engines.debian.mirror import Mirror

Server = Any  # of conftest.py
BODY = bytes(range(256)) * 1000


@pytest.fixture
def server(server: Any) -> Any:
    """The server of conftest.py as a mirror: its address has a folder."""
    server.url += "/debian"
    return server


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = download.Settings(parallel=2, attempts=2, pause=0.01, timeout=5)
    monkeypatch.setattr(download, "Settings", lambda: settings)
    monkeypatch.setattr(module, "fetch_wheels", lambda wheels, architecture, cache: None)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def package(name: str, data: bytes, **values: object) -> LockedPackage:
    fields = {"name": name, "version": "1", "architecture": "arm64", "sha256": digest(data), "size": len(data)}
    more = {"source": name, "section": "x", "path": f"pool/{name}_1_arm64.deb", "group": "base"}
    return LockedPackage.model_validate({**fields, **more, **values})


def make_lock(*packages: LockedPackage, wheels: tuple[LockedWheel, ...] = ()) -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = dict.fromkeys(("suite", "architecture", "host_architecture"), "arm64")
    return Lock(
        image="edge", epoch=1, request=Request.model_validate({**nothing, **text}), packages=packages, wheels=wheels
    )


def get(lock: Lock, cache: Cache, server: Server | None = None, store: Path | None = None) -> None:
    every = [*(each.sha256 for each in lock.packages), *(each.sha256 for each in lock.wheels)]
    fetch(lock, every, cache, Sources(server.url if server else "http://127.0.0.1:9", store), None)


# From the mirror.


def test_only_what_is_asked_for_is_fetched_and_only_once(server: Server, cache: Cache) -> None:
    server.files = {f"/debian/pool/{name}_1_arm64.deb": name.encode() for name in "ab"}
    lock = make_lock(package("a", b"a"), package("b", b"b"))
    for _ in range(2):
        fetch(lock, [digest(b"a"), digest(b"of nobody")], cache, Sources(server.url, None), None)
        assert server.asked == [("/debian/pool/a_1_arm64.deb", "")]
    assert cache.file(digest(b"a")).read_bytes() == b"a"
    assert not cache.have_file(digest(b"b"))


def test_nothing_to_fetch_asks_nobody_for_a_mirror(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_mirror", lambda option: pytest.fail("asked for a mirror"))
    fetch(make_lock(), [], cache, Sources(None, None), None)


def test_a_damaged_file_in_the_cache_is_fetched_anew(server: Server, cache: Cache) -> None:
    server.files = {"/debian/pool/a_1_arm64.deb": b"good"}
    lock = make_lock(package("a", b"good"))
    get(lock, cache, server)
    cache.file(digest(b"good")).write_bytes(b"evil")
    get(lock, cache, server)
    assert cache.file(digest(b"good")).read_bytes() == b"good"


def test_security_updates_come_from_their_own_archive(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = Mirror("http://127.0.0.1:9", server.url.replace("/debian", "/security"))
    monkeypatch.setattr(module, "find_mirror", lambda option: mirror)
    server.files = {"/security/pool/updates/a.deb": b"a"}
    lock = make_lock(package("a", b"a", security=True, path="pool/updates/a.deb"))
    fetch(lock, [digest(b"a")], cache, Sources(None, None), None)
    assert cache.have_file(digest(b"a"))


def test_a_security_archive_that_nobody_named_is_said_to_be_missing(server: Server, cache: Cache) -> None:
    lock = make_lock(package("a", b"a", security=True, path="pool/updates/a.deb"))
    with pytest.raises(ToolError) as caught:
        get(lock, cache, server)
    assert caught.value.message == f"a.deb: is of Debian's security archive, and only {server.url} is named"
    assert "security_mirror: URL" in caught.value.hint
    assert server.asked == []


def test_a_mirror_gone_in_the_middle_is_one_line_and_the_next_call_goes_on_at_the_byte(
    server: Server, cache: Cache
) -> None:
    path = "/debian/pool/a_1_arm64.deb"
    server.files, server.breaks, server.silent = {path: BODY}, {path: 100_000}, True
    lock = make_lock(package("a", BODY))
    with pytest.raises(ToolError) as caught:
        get(lock, cache, server)
    assert caught.value.message.startswith(f"a_1_arm64.deb: {server.url}/pool/a_1_arm64.deb: ")
    assert caught.value.message.endswith("(100000 bytes are here)")
    assert "\n" not in caught.value.message
    assert "goes on where it stopped" in caught.value.hint
    assert not cache.have_file(digest(BODY))
    server.asked.clear()
    server.breaks.clear()
    get(lock, cache, server)
    assert server.asked == [(path, "bytes=100000-")]
    assert cache.file(digest(BODY)).read_bytes() == BODY


def test_a_full_disk_is_named_and_nothing_half_is_in_the_store(
    server: Server, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files = {"/debian/pool/a_1_arm64.deb": BODY}
    lock = make_lock(package("a", BODY))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download.os, "fsync", full)
        with pytest.raises(ToolError, match="no space left on this disk") as caught:
            get(lock, cache, server)
    assert caught.value.exit_code == 3
    assert "--cache" in caught.value.hint
    assert not cache.have_file(digest(BODY))
    get(lock, cache, server)
    assert cache.have_file(digest(BODY), len(BODY))


# From and into a store.


@pytest.fixture
def store(cache: Cache, server: Server, tmp_path: Path) -> Path:
    """A store with the package `a`, made through a cache that is then gone."""
    server.files = {"/debian/pool/a_1_arm64.deb": b"a"}
    lock = make_lock(package("a", b"a"))
    get(lock, cache, server)
    assert vendor(lock, cache, tmp_path / "store") == (1, 1)
    cache.file(digest(b"a")).unlink()
    server.asked.clear()
    return tmp_path / "store"


def test_a_store_is_used_before_any_mirror(store: Path, cache: Cache, server: Server) -> None:
    server.files["/debian/pool/b_1_arm64.deb"] = b"b"
    get(make_lock(package("a", b"a"), package("b", b"b")), cache, server, store)
    assert server.asked == [("/debian/pool/b_1_arm64.deb", "")]
    assert cache.file(digest(b"a")).read_bytes() == b"a"
    assert (store / "files" / digest(b"a")[:2] / digest(b"a")).exists()


def test_a_whole_store_needs_no_mirror(store: Path, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_mirror", lambda option: pytest.fail("asked for a mirror"))
    get(make_lock(package("a", b"a")), cache, None, store)


def test_a_folder_that_is_no_store_is_named(cache: Cache, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        get(make_lock(package("a", b"a")), cache, None, tmp_path / "none")
    assert caught.value.message == f"{tmp_path}/none: not a vendored store"
    assert caught.value.hint == "make one: cumulet vendor RECIPE --to FOLDER"


def test_a_damaged_file_in_a_store_is_named_and_stays_out_of_the_cache(store: Path, cache: Cache) -> None:
    damaged = store / "files" / digest(b"a")[:2] / digest(b"a")
    damaged.write_bytes(b"b")
    with pytest.raises(ToolError) as caught:
        get(make_lock(package("a", b"a")), cache, None, store)
    assert caught.value.message == f"{damaged}: not the content of a_1_arm64.deb: wrong checksum"
    assert caught.value.hint == f"vendor it again: cumulet vendor RECIPE --to {store}"
    assert not cache.have_file(digest(b"a"))


def test_every_file_is_copied_once_and_the_second_run_copies_nothing(cache: Cache, tmp_path: Path) -> None:
    for data in (b"a", b"w"):
        (tmp_path / "new").write_bytes(data)
        cache.add_file(tmp_path / "new", digest(data))
    wheel = LockedWheel(name="w", version="1", file="w.whl", sha256=digest(b"w"), size=0)
    lock = make_lock(package("a", b"a"), package("a", b"a", group="tools"), wheels=(wheel,))
    assert vendor(lock, cache, tmp_path / "store") == (2, 2)
    assert vendor(lock, cache, tmp_path / "store") == (0, 2)
    stored = [path for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert {path.name for path in stored} == {digest(b"a"), digest(b"w")}


def test_a_damaged_file_in_a_store_is_replaced(store: Path, cache: Cache, server: Server) -> None:
    lock = make_lock(package("a", b"a"))
    get(lock, cache, server)
    damaged = store / "files" / digest(b"a")[:2] / digest(b"a")
    damaged.write_bytes(b"b")
    assert vendor(lock, cache, store) == (1, 1)
    assert damaged.read_bytes() == b"a"


def test_a_full_disk_leaves_no_half_file_in_a_store(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "new").write_bytes(b"a")
    cache.add_file(tmp_path / "new", digest(b"a"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ToolError, match="no space left on this disk"):
        vendor(make_lock(package("a", b"a")), cache, tmp_path / "store")
    assert [path for path in (tmp_path / "store").rglob("*") if path.is_file()] == []
