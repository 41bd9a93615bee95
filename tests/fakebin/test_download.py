"""Downloads against a server on this machine that misbehaves on demand."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.download import Progress, Request, Settings, download, fetch_text

BODY = bytes(range(256)) * 4096
QUICK = Settings(parallel=4, attempts=3, pause=0.01, timeout=5)


@dataclass
class Server:
    """What the handler serves and how: `cut` bytes per answer, errors to give first."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    errors: dict[str, list[int]] = field(default_factory=dict)
    ranges: bool = True
    asked: list[tuple[str, str]] = field(default_factory=list)


def make_handler(state: Server) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range", "")
            state.asked.append((self.path, wanted))
            queue = state.errors.get(self.path, [])
            body = state.files.get(self.path)
            if queue or body is None:
                self.send_response(queue.pop(0) if queue else 404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and state.ranges else 0
            if start >= len(body) > 0:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            end = start + state.cut.get(self.path, len(body))
            self.wfile.write(body[start:end])
            if end < len(body):
                self.close_connection = True

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    state = Server()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state)) as daemon:
        state.url = f"http://127.0.0.1:{daemon.server_port}"
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield state
        daemon.shutdown()
        thread.join()


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
    gone = Server(url=server.url)
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
