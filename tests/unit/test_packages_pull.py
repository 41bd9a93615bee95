"""Bringing blobs here from a server that breaks off, from a registry, and from another device."""

from __future__ import annotations

import base64
import hashlib
import http.server
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.packages.device.chunks import Blob, Part, WrongChunkError
from cumulet.packages.device.client import Client, RefusedError
from cumulet.packages.device.pull import Effort, pull
from cumulet.packages.device.serve import Shelf, serving
from cumulet.packages.device.sources import Source, check_source, open_source, parse_registry

Shop = Any  # of conftest.py
CHUNK = 1 << 16
BODY = random.Random(1).randbytes(5 * CHUNK + 123)
QUICK = Effort(patience=0.5, pause=0.01)


@pytest.fixture(autouse=True)
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks are small here, and a disk is slow."""
    for name in ("fdatasync", "fsync"):
        monkeypatch.setattr(f"os.{name}", lambda handle: None)


def make_blob(body: bytes = BODY) -> Blob:
    chunks = [hashlib.sha256(body[at : at + CHUNK]).hexdigest() for at in range(0, len(body), CHUNK)]
    return Blob("model 1", hashlib.sha256(body).hexdigest(), len(body), CHUNK, tuple(chunks))


@pytest.fixture
def store(tmp_path: Path, shop: Callable[..., Shop]) -> Shop:
    path = tmp_path / "store/blobs/sha256" / make_blob().sha256
    path.parent.mkdir(parents=True)
    path.write_bytes(BODY)
    return shop(tmp_path / "store")


def bring(folder: Path, *urls: str, effort: Effort = QUICK, blob: Blob | None = None) -> Part:
    part = Part(folder, blob or make_blob())
    try:
        pull(part, [open_source(url, Client(seconds=2)) for url in urls], effort, lambda _: None)
        assert part.publish().read_bytes() == BODY
    finally:
        part.close()
    return part


def damage(store: Shop, at: int) -> None:
    path = store.folder / "blobs/sha256" / make_blob().sha256
    data = bytearray(BODY)
    data[at] ^= 1
    path.write_bytes(data)


def test_nothing_is_sent_twice_when_the_connection_breaks_again_and_again(tmp_path: Path, store: Shop) -> None:
    edges = [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 4 * CHUNK + 77, len(BODY) - 1]
    store.at.update(dict.fromkeys(edges, lambda: True))
    bring(tmp_path / "here", store.url)
    assert [start for _, start in store.asked] == [0, *edges]
    assert store.sent == len(BODY)


def test_a_source_that_is_gone_ends_it_at_a_byte_and_the_next_try_goes_on_there(tmp_path: Path, store: Shop) -> None:
    blob, away = store.folder / "blobs/sha256" / make_blob().sha256, store.folder / "away"
    store.at[100_000] = lambda: bool(blob.rename(away))
    with pytest.raises(TargetError, match="ended at byte 100000 of 327803"):
        bring(tmp_path / "here", store.url)
    away.rename(blob)
    bring(tmp_path / "here", store.url)
    assert [start for _, start in store.asked] == [0, 100_000, 100_000]
    assert store.sent == len(BODY)


def test_a_changed_chunk_is_one_error_that_names_it_and_its_source(tmp_path: Path, store: Shop) -> None:
    damage(store, 2 * CHUNK + 5)
    with pytest.raises(WrongChunkError) as raised:
        bring(tmp_path / "here", store.url)
    assert "model 1: chunk 3 of 6 is not what the signed index says" in raised.value.message
    assert store.url in raised.value.message
    assert not (tmp_path / "here" / make_blob().sha256).exists()


def test_another_source_takes_over_from_one_that_is_damaged(
    tmp_path: Path, store: Shop, shop: Callable[..., Shop]
) -> None:
    good = tmp_path / "good/blobs/sha256" / make_blob().sha256
    good.parent.mkdir(parents=True)
    good.write_bytes(BODY)
    damage(store, CHUNK + 5)
    bring(tmp_path / "here", store.url, shop(tmp_path / "good").url)


def test_nobody_having_it_is_an_error_at_once(tmp_path: Path, shop: Callable[..., Shop]) -> None:
    with pytest.raises(TargetError, match=r"ended at byte 0 .* 404"):
        bring(tmp_path / "here", shop(tmp_path).url)


def test_a_server_without_ranges_costs_bytes_but_not_the_file(tmp_path: Path) -> None:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(BODY)))
            self.end_headers()
            self.wfile.write(BODY)

    (tmp_path / "here").mkdir()
    (tmp_path / "here" / f"{make_blob().sha256}.part").write_bytes(BODY[:1234])
    with running(Handler) as address:
        bring(tmp_path / "here", f"http://{address}")


def test_a_device_hands_on_what_it_has_itself_only_in_part(tmp_path: Path, store: Shop) -> None:
    first = Part(tmp_path / "first", make_blob())
    shelf = Shelf(tmp_path / "first", frozenset({make_blob().sha256}))
    go = threading.Event()
    store.at[2 * CHUNK] = lambda: not go.wait(5)  # the first device has two chunks, until the second one has them too
    second = Part(tmp_path / "second", make_blob())
    with serving(shelf, ("127.0.0.1", 0), "secret", 2) as port:
        source = open_source(f"peer://127.0.0.1:{port}/secret", Client(seconds=5))
        child = threading.Thread(target=pull, args=(second, [source], Effort(5, 0.01), lambda _: None))
        child.start()
        shelf.begin(first)
        parent = threading.Thread(
            target=pull, args=(first, [open_source(store.url, Client(seconds=10))], Effort(5, 0.01), lambda _: None)
        )
        parent.start()
        with second.grown:
            assert second.grown.wait_for(lambda: second.verified == 2 * CHUNK, 5)
        assert first.verified == 2 * CHUNK
        go.set()
        parent.join()
        child.join()
    assert first.publish().read_bytes() == second.publish().read_bytes() == BODY
    assert store.sent == len(BODY)
    first.close()
    second.close()


def test_a_device_hands_on_to_nobody_who_does_not_know_the_secret_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / make_blob().sha256).write_bytes(BODY)
    (tmp_path / "lock").write_text("1")
    with serving(Shelf(tmp_path, frozenset()), ("127.0.0.1", 0), "secret", 2) as port:
        for path in (f"other/{make_blob().sha256}", "secret/lock", f"secret/{'0' * 64}", "secret/../lock", ""):
            with pytest.raises(RefusedError, match="404"):
                Client().read(f"http://127.0.0.1:{port}/{path}")
        assert Client().read(f"http://127.0.0.1:{port}/secret/{make_blob().sha256}") == BODY


def test_a_device_hands_on_to_no_more_at_a_time_than_it_should(tmp_path: Path) -> None:
    (tmp_path / make_blob().sha256).write_bytes(BODY * 40)
    with serving(Shelf(tmp_path, frozenset()), ("127.0.0.1", 0), "secret", 1) as port:
        url = f"http://127.0.0.1:{port}/secret/{make_blob().sha256}"
        slow = Client().ask("GET", url)
        with pytest.raises(RefusedError, match="503"):
            Client().read(url)
        slow.close()


@contextmanager
def running(handler: type[http.server.BaseHTTPRequestHandler]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{daemon.server_port}"
        daemon.shutdown()
        thread.join()


def make_registry(asked: list[tuple[str, str]], login: str) -> type[http.server.BaseHTTPRequestHandler]:
    """A registry that wants a token, gives one for the login, and keeps its blobs on another server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            grant = self.headers.get("Authorization", "")
            asked.append((self.path.split("?")[0], grant))
            host = self.headers["Host"]
            if self.path.startswith("/token?"):
                good = grant == f"Basic {base64.b64encode(login.encode()).decode()}"
                self.answer(200 if good else 401, b'{"token": "open"}' if good else b"{}")
            elif self.path.startswith("/elsewhere/"):
                start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
                self.answer(206, BODY[start:])
            elif grant != "Bearer open":
                realm = f'Bearer realm="http://{host}/token",service="test",scope="repository:edge:pull"'
                self.answer(401, b"", {"WWW-Authenticate": realm})
            else:
                place = self.path.rpartition("/")[2]
                self.answer(307, b"", {"Location": f"http://localhost:{host.rpartition(':')[2]}/elsewhere/{place}"})

        def answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    return Handler


def test_a_registry_that_wants_a_token_and_sends_elsewhere_is_read(tmp_path: Path) -> None:
    asked: list[tuple[str, str]] = []
    with running(make_registry(asked, "edge:password")) as address:
        source: Source = open_source(f"oci+http://{address}/edge/packages", Client("edge:password", 2))
        part = Part(tmp_path, make_blob())
        pull(part, [source], QUICK, lambda _: None)
        assert part.publish().read_bytes() == BODY
        part.close()
    # The token is for the registry; where it keeps its blobs nobody needs to see it.
    assert [grant for path, grant in asked if path.startswith("/elsewhere/")] == [""]


def test_a_registry_that_does_not_like_the_password_says_so(tmp_path: Path) -> None:
    with running(make_registry([], "edge:password")) as address:
        source = open_source(f"oci+http://{address}/edge/packages", Client("edge:wrong", 2))
        with pytest.raises(RefusedError, match="401"):
            list(source.read_blob(make_blob().sha256, 0))


@pytest.mark.parametrize(
    "url",
    [
        "https://store.example/edge",
        "oci://registry.example/edge/packages",
        "oci://registry.example:5000/edge:v2",
        "http://127.0.0.1:8000",
        "http://10.52.0.1:8000/store",
        "oci+http://localhost:5000/edge",
    ],
)
def test_a_place_of_packages_is_one(url: str) -> None:
    assert check_source(url) == url


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://store.example/edge", "without TLS"),
        ("oci+http://8.8.8.8/edge", "without TLS"),
        ("ftp://store.example", "no place of packages"),
        ("store.example", "no place of packages"),
        ("peer://10.0.0.1/x", "no place of packages"),
        ("oci://registry.example", "is no repository"),
        ("oci://registry.example/Upper", "is no repository"),
    ],
)
def test_a_place_of_packages_is_none(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_source(url)


def test_a_repository_without_a_tag_has_ours() -> None:
    assert (parse_registry("oci://a.example/b/c").url, parse_registry("oci://a.example/b/c").tag) == (
        "https://a.example/v2/b/c",
        "packages",
    )
    assert parse_registry("oci://a.example:5000/b:7").tag == "7"
