"""Handing blobs on to other devices of the site, also one that is still coming: every verified chunk at once.

Who asks must know the secret of this run, and checks all that it gets against the
signed index itself.
"""

from __future__ import annotations

import hmac
import http.server
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from cumulet.packages.device.chunks import PIECE, Part

WAIT_SECONDS = 10.0
BUFFER = 1 << 19


class Shelf:
    """The blobs of a device: those that lie in the folder, and those that `coming` names."""

    def __init__(self, folder: Path, coming: frozenset[str]) -> None:
        self.folder = folder
        self._coming = set(coming)
        self._parts: dict[str, Part] = {}
        self._changed = threading.Condition()

    def begin(self, part: Part) -> None:
        """A blob begins to come."""
        with self._changed:
            self._parts[part.blob.sha256] = part
            self._changed.notify_all()

    def find(self, sha256: str) -> tuple[Path, Part | None] | None:
        """Where a blob is and, if it is still coming, its part; None if it will not be here in a moment."""
        until = time.monotonic() + WAIT_SECONDS
        with self._changed:
            while True:
                if (self.folder / sha256).is_file():
                    return self.folder / sha256, None
                if sha256 in self._parts:
                    return self._parts[sha256].path, self._parts[sha256]
                if sha256 not in self._coming or time.monotonic() > until:
                    return None
                self._changed.wait(1.0)


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection of another device: `GET /SECRET/SHA256`, from a byte on if that is asked for."""

    server: Server
    protocol_version = "HTTP/1.1"
    timeout = 30

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the path has the secret."""

    def do_GET(self) -> None:
        """Send a blob."""
        words = self.path.split("/")
        known = len(words) == 3 and hmac.compare_digest(words[1].encode(), self.server.secret.encode())
        if not known or not re.fullmatch(r"[0-9a-f]{64}", words[2]):
            self._refuse(404)
        elif not self.server.slots.acquire(blocking=False):
            self._refuse(503)
        else:
            try:
                self._send(words[2])
            finally:
                self.server.slots.release()

    def _send(self, sha256: str) -> None:
        found = self.server.shelf.find(sha256)
        if found is None:
            self._refuse(404)
            return
        path, part = found
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "bytes=0-"))
        start = int(match[1]) if match else 0
        try:
            # A part that is whole by now has its final name, and the same bytes.
            stream = path.open("rb")
        except FileNotFoundError:
            stream = (self.server.shelf.folder / sha256).open("rb")
        with stream:
            size = part.blob.size if part else path.stat().st_size
            if start >= size:
                self._refuse(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(size - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
            self.end_headers()
            stream.seek(start)
            self._stream(stream, part, start, size)

    def _stream(self, stream: IO[bytes], part: Part | None, start: int, size: int) -> None:
        while start < size:
            end = wait_for(part, start) if part else size
            if end <= start:
                self.close_connection = True
                return
            while start < end:
                data = stream.read(min(PIECE, end - start))
                self.wfile.write(data)
                start += len(data)

    def _refuse(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def wait_for(part: Part, start: int) -> int:
    """How much of a part is verified; waits a while for more than `start`."""
    until = time.monotonic() + WAIT_SECONDS
    with part.grown:
        while part.verified <= start and time.monotonic() < until:
            part.grown.wait(1.0)
        return part.verified


class Server(http.server.ThreadingHTTPServer):
    """Listens on one address; a device that hangs up is no event."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self, address: tuple[str, int], shelf: Shelf, secret: str, most: int) -> None:
        super().__init__(address, Handler)
        self.shelf, self.secret = shelf, secret
        self.slots = threading.BoundedSemaphore(most)

    def get_request(self) -> tuple[socket.socket, tuple[str, int]]:
        """Little lies between a device's own memory and the other's when a cable is pulled."""
        connection, address = super().get_request()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)
        return connection, address

    def handle_error(self, request: object, client_address: object) -> None:
        """The other side hung up, and will ask again."""


@contextmanager
def serving(shelf: Shelf, address: tuple[str, int], secret: str, most: int) -> Iterator[int]:
    """Hand on what is on the shelf, to `most` devices at a time, until the end of the block. Yields the port."""
    with Server(address, shelf, secret, most) as daemon:
        thread = threading.Thread(target=daemon.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield daemon.server_address[1]
        finally:
            daemon.shutdown()
            thread.join()
