"""What tests with fake programs share: a folder of programs on PATH, small package files, a server of files."""

from __future__ import annotations

import http.server
import io
import os
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Fake = Callable[[str, str], Path]
Deb = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """`fake("apt-get", "echo hello")`: a shell script that is found before every real program of its name."""
    folder = tmp_path / "fakebin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def put(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return put


def make_tar(members: Sequence[tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]]) -> bytes:
    """The bytes of a packed archive; a member with content is a pair."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"./{name}")
    info.type, info.linkname, info.mode = kind, link, mode
    info.uid, info.gid = os.getuid(), os.getgid()
    return info


@pytest.fixture
def make_deb(tmp_path: Path) -> Deb:
    """A package file: `make_deb("tool", {"usr/bin/tool": b"..."}, control={"postinst": "..."}, fields="...")`.

    A file's value is its content; None is a folder, "-> x" a symbolic link, "= x" a hard link to a name of the package.
    """

    def entry(name: str, value: bytes | str | None) -> tarfile.TarInfo | tuple[tarfile.TarInfo, bytes]:
        if value is None:
            return member(name, tarfile.DIRTYPE, mode=0o755)
        if isinstance(value, bytes):
            return member(name), value
        kind = tarfile.SYMTYPE if value.startswith("-> ") else tarfile.LNKTYPE
        target = value.partition(" ")[2]
        return member(name, kind, target if kind == tarfile.SYMTYPE else f"./{target}")

    def make(
        name: str,
        files: dict[str, bytes | str | None],
        *,
        control: dict[str, str] | None = None,
        fields: str = "Architecture: all\n",
    ) -> Path:
        texts = {"control": f"Package: {name}\nVersion: 1\n{fields}Description: x\n more\n", **(control or {})}
        parts = {
            "debian-binary": b"2.0\n",
            "control.tar.gz": make_tar([(member(each), text.encode()) for each, text in texts.items()]),
            "data.tar.gz": make_tar([entry(each, value) for each, value in files.items()]),
        }
        data = b"!<arch>\n"
        for part, content in parts.items():
            head = f"{part:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n"
            data += head.encode() + content + b"\n" * (len(content) % 2)
        path = tmp_path / "debs" / f"{name}_1_all.deb"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return path

    return make


@dataclass
class Server:
    """What is served and how: `cut` bytes per answer, errors to give first.

    What `breaks` off after so many bytes is gone then, or with `silent` sends not one byte more.
    `asked`: path and range of every question.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)
    silent: bool = False
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
            gone = state.breaks.get(self.path) == 0 and not state.silent
            body = None if gone else state.files.get(self.path)
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
            end = start + state.breaks.get(self.path, state.cut.get(self.path, len(body)))
            if self.path in state.breaks:
                state.breaks[self.path] = 0
            self.wfile.write(body[start:end])
            if end < len(body):
                self.close_connection = True

    return Handler


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of files on this machine, which misbehaves on demand."""
    state = Server()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), make_handler(state)) as daemon:
        state.url = f"http://127.0.0.1:{daemon.server_port}"
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield state
        daemon.shutdown()
        thread.join()
