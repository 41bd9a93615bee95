"""Downloads against a server on this machine that misbehaves on demand."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.download import Progress, Request, Settings, download, fetch_text

Server = Any  # of conftest.py
BODY = bytes(range(256)) * 4096
QUICK = Settings(parallel=4, attempts=3, pause=0.01, timeout=5)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def wish(server: Server, name: str, body: bytes = BODY, size: int | None = len(BODY)) -> Request:
    return Request(f"{server.url}/{name}", hashlib.sha256(body).hexdigest(), size, name)


def test_files_arrive_in_the_store_and_progress_ends_at_the_sum(server: Server, cache: Cache) -> None:
    bodies = {f"/f{n}": BODY + bytes([n]) for n in range(6)}
    server.files.update(bodies)
    seen: list[Progress] = []
    wishes = [wish(server, path[1:], body, len(body)) for path, body in bodies.items()]
    download(wishes, cache, seen.append, QUICK)
    for request, body in zip(wishes, bodies.values(), strict=True):
        assert cache.file(request.sha256).read_bytes() == body
    assert seen[-1].files_done == seen[-1].files == 6
    assert seen[-1].done == seen[-1].total == sum(map(len, bodies.values()))
    assert list((cache.root / "parts").iterdir()) == []


def test_the_second_run_asks_for_nothing(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    download([wish(server, "a")], cache, None, QUICK)
    asked = len(server.asked)
    download([wish(server, "a")], cache, None, QUICK)
    assert len(server.asked) == asked


def test_a_connection_that_breaks_again_and_again_is_resumed(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    server.cut["/a"] = len(BODY) // 5
    download([wish(server, "a")], cache, None, QUICK)
    assert cache.file(wish(server, "a").sha256).read_bytes() == BODY
    assert [wanted for _, wanted in server.asked][1].startswith("bytes=")


def test_a_server_without_ranges_sends_the_file_again(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    server.ranges = False
    part = cache.root / "parts" / f"{wish(server, 'a').sha256}.part"
    part.parent.mkdir()
    part.write_bytes(b"x" * 1000)
    download([wish(server, "a")], cache, None, QUICK)
    assert cache.file(wish(server, "a").sha256).read_bytes() == BODY


def test_a_part_of_an_earlier_run_is_continued(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    part = cache.root / "parts" / f"{wish(server, 'a').sha256}.part"
    part.parent.mkdir()
    part.write_bytes(BODY[:1000])
    download([wish(server, "a")], cache, None, QUICK)
    assert server.asked == [("/a", "bytes=1000-")]
    assert cache.file(wish(server, "a").sha256).read_bytes() == BODY


def test_a_complete_part_is_only_checked(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    part = cache.root / "parts" / f"{wish(server, 'a').sha256}.part"
    part.parent.mkdir()
    part.write_bytes(BODY)
    download([wish(server, "a", size=None)], cache, None, QUICK)
    assert cache.have_file(wish(server, "a").sha256, len(BODY))


def test_a_part_longer_than_the_file_starts_over(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    part = cache.root / "parts" / f"{wish(server, 'a').sha256}.part"
    part.parent.mkdir()
    part.write_bytes(BODY + b"more")
    download([wish(server, "a")], cache, None, QUICK)
    assert cache.file(wish(server, "a").sha256).read_bytes() == BODY


def test_a_busy_server_is_asked_again(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    server.errors["/a"] = [503, 500]
    download([wish(server, "a")], cache, None, QUICK)
    assert len(server.asked) == 3


def test_wrong_content_of_the_right_size_is_refused_and_removed(server: Server, cache: Cache) -> None:
    server.files["/a"] = b"\1" + BODY[1:]
    with pytest.raises(ToolError, match="wrong checksum: expected sha256"):
        download([wish(server, "a")], cache, None, QUICK)
    assert not cache.have_file(wish(server, "a").sha256)
    assert list((cache.root / "parts").iterdir()) == []


def test_content_of_another_size_is_refused_with_both_sizes(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY[:-1]
    with pytest.raises(ToolError, match=f"gave {len(BODY) - 1} bytes instead of {len(BODY)}"):
        download([wish(server, "a")], cache, None, QUICK)


def test_a_missing_file_is_not_asked_for_twice(server: Server, cache: Cache) -> None:
    with pytest.raises(ToolError, match=r"a: http://.*: HTTP 404") as caught:
        download([wish(server, "a")], cache, None, QUICK)
    assert len(server.asked) == 1
    assert "another mirror" in caught.value.hint


def test_a_mirror_gone_in_the_middle_keeps_what_arrived(server: Server, cache: Cache) -> None:
    server.files["/a"] = BODY
    server.cut["/a"] = 300_000
    server.errors["/b"] = [503] * 99
    server.files["/b"] = BODY
    request = wish(server, "a")
    gone = type(server)(url=server.url)
    with pytest.raises(ToolError, match=r"b: .*HTTP 503 \(0 bytes are here\)"):
        download([wish(server, "b", b"b", 1)], cache, None, QUICK)
    assert gone.asked == []
    server.errors["/a"] = []
    server.cut["/a"] = 0
    with pytest.raises(ToolError, match="bytes are here") as caught:
        download([request], cache, None, QUICK)
    assert "goes on where it stopped" in caught.value.hint


def test_nobody_listening_is_named(cache: Cache) -> None:
    request = Request("http://127.0.0.1:9/a", "0" * 64, None, "a")
    with pytest.raises(ToolError, match=r"a: http://127.0.0.1:9/a: .*refused"):
        download([request], cache, None, QUICK)


def test_one_failure_stops_the_others_and_is_the_one_reported(server: Server, cache: Cache) -> None:
    for n in range(8):
        server.files[f"/f{n}"] = BODY
        server.errors[f"/f{n}"] = [503] * 99
    wishes = [wish(server, f"f{n}", bytes([n]), 1) for n in range(8)] + [wish(server, "missing", b"m", 1)]
    with pytest.raises(ToolError, match=r"missing: .*404"):
        download(wishes, cache, None, Settings(parallel=9, attempts=9, pause=5, timeout=5))


def test_a_file_url_is_copied_and_checked(tmp_path: Path, cache: Cache) -> None:
    source = tmp_path / "with space"
    source.write_bytes(BODY)
    request = Request(source.as_uri(), hashlib.sha256(BODY).hexdigest(), None, "local")
    download([request], cache, None, QUICK)
    assert cache.file(request.sha256).read_bytes() == BODY
    with pytest.raises(ToolError, match="no such file"):
        download([Request((tmp_path / "no").as_uri(), "0" * 64, None, "no")], cache, None, QUICK)


def test_a_text_is_fetched_with_retries(server: Server) -> None:
    server.files["/sums"] = b"abc  file\n"
    server.errors["/sums"] = [502]
    assert fetch_text(f"{server.url}/sums", QUICK) == "abc  file\n"
    with pytest.raises(ToolError, match="HTTP 404"):
        fetch_text(f"{server.url}/no", QUICK)
