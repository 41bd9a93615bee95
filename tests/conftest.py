"""What every test may ask for."""

from __future__ import annotations

import fcntl
import http.client
import http.server
import json
import os
import socket
import struct
import termios
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import pytest

from cumulet.core import proc
from cumulet.core.deadline import Deadline

Write = Callable[[str, str], Path]


def refuse(reason: str) -> NoReturn:
    """Skip on a laptop; in CI a test that cannot run is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def need() -> Callable[[str], str]:
    """`need("dash")`: the path of a program that the test cannot do without."""

    def look(name: str) -> str:
        found = proc.find(name)
        return found if found is not None else refuse(f"{name} is not on this computer")

    return look


@pytest.fixture
def need_file() -> Callable[[str], Path]:
    """`need_file("/usr/share/x")`: a file of a Debian package that the test cannot do without."""

    def look(name: str) -> Path:
        return Path(name) if Path(name).is_file() else refuse(f"{name} is not on this computer")

    return look


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with home and cache beside it, so that nothing of the user is touched."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


@pytest.fixture
def write(here: Path) -> Write:
    """Write a text file below the current folder and return its path."""

    def write_file(name: str, text: str) -> Path:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file


@dataclass
class Shop:
    """A folder behind a web server, and what was fetched from it.

    `at`: when so many bytes of blobs were sent, all answers together, something happens; if it says True, the
    connection breaks there. `sent` counts the bytes of blobs that have reached the other side's kernel.
    """

    folder: Path
    url: str = ""
    at: dict[int, Callable[[], bool]] = field(default_factory=dict)
    sent: int = 0
    asked: list[tuple[str, int]] = field(default_factory=list)

    def next_event(self) -> int | None:
        """How many more bytes until something happens."""
        return min((place - self.sent for place in self.at if place >= self.sent), default=None)


def make_shop_handler(shop: Shop) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").rstrip("-"))
            shop.asked.append((self.path, start))
            path = shop.folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_error(404)
                return
            size = path.stat().st_size
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(size - start))
            self.end_headers()
            with path.open("rb") as stream:
                stream.seek(start)
                if "/blobs/" in self.path:
                    self.send_blob(stream)
                else:
                    self.wfile.write(stream.read())

        def send_blob(self, stream: Any) -> None:
            while True:
                event = shop.next_event()
                if event == 0 and shop.at.pop(shop.sent)():
                    self.connection.shutdown(socket.SHUT_WR)
                    self.close_connection = True
                    return
                event = shop.next_event()
                data = stream.read(min(1 << 16, event or 1 << 16))
                if not data:
                    return
                shop.sent += len(data)
                try:
                    self.wfile.write(data)
                except OSError:
                    # What still lies in this computer's memory when the other side is gone has reached nobody.
                    lost = fcntl.ioctl(self.connection.fileno(), termios.TIOCOUTQ, b"    ")
                    shop.sent -= struct.unpack("i", lost)[0]
                    self.close_connection = True
                    return

        def finish(self) -> None:
            with suppress(OSError):
                super().finish()

    return Handler


@contextmanager
def open_shop(folder: Path, address: str) -> Iterator[Shop]:
    class Daemon(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def get_request(self) -> tuple[socket.socket, Any]:
            connection, where = super().get_request()
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16)
            return connection, where

    shop = Shop(folder)
    with Daemon((address, 0), make_shop_handler(shop)) as daemon:
        shop.url = f"http://{address}:{daemon.server_port}"
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield shop
        daemon.shutdown()
        thread.join()


@pytest.fixture
def shop() -> Iterator[Callable[..., Shop]]:
    """`shop(folder)`: the folder behind a web server, on this computer or on another address of it."""
    with ExitStack() as stack:
        yield lambda folder, address="127.0.0.1": stack.enter_context(open_shop(folder, address))


@contextmanager
def open_registry(folder: Path, program: str, address: str) -> Iterator[str]:
    with socket.create_server((address, 0)) as free:
        place = f"{address}:{free.getsockname()[1]}"
    settings = {
        "version": "0.1",
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": place},
    }
    folder.mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    with (folder / "log").open("w") as log:
        process = proc.spawn([program, "serve", folder / "settings.json"], log=log)
        try:
            deadline = Deadline.after(20)
            while True:
                connection = http.client.HTTPConnection(place)
                try:
                    connection.request("GET", "/v2/")
                    connection.getresponse().read()
                    break
                except OSError:
                    deadline.check(f"{place}: a registry")
                    deadline.sleep(0.05)
                finally:
                    connection.close()
            yield place
        finally:
            proc.stop(process)


@pytest.fixture
def registries(tmp_path: Path, need: Callable[[str], str]) -> Iterator[Callable[..., str]]:
    """`registries()`: HOST:PORT of Debian's docker-registry, running on this computer or on another address of it."""
    program = need("docker-registry")
    with ExitStack() as stack:
        yield lambda address="127.0.0.1": stack.enter_context(open_registry(tmp_path / "registry", program, address))
