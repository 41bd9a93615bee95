"""The door of the merging member: whoever looks after the job asks here how far it is, and fetches the result.

A few words of HTTP over TLS, so that the cluster's API server can carry them (`pods/https:NAME:PORT/proxy`).
Who asks must know the job's token.
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import json
import socket
import threading
from collections.abc import Callable
from typing import Any, Final

from cumulet.supercontainer.inside import wire
from cumulet.supercontainer.inside.merges import Merged
from cumulet.supercontainer.inside.setting import Setting

PIECE: Final = 3 << 20
LONGEST: Final = 16 << 10


class Door:
    """Answers `state`, `result/OFFSET` and `taken/SHA256` behind the token. `state` is asked for its answer."""

    def __init__(self, setting: Setting, state: Callable[[], dict[str, Any]]) -> None:
        self.merged: Merged | None = None
        self.taken = threading.Event()
        self._token = setting.token
        self._state = state
        self._context = wire.make_server_context(setting.trust, members=False)
        self._server = wire.open_server(setting.listen, setting.door)
        wire.serve_each(self._server, self._serve)

    def close(self) -> None:
        """Stop listening."""
        wire.close_server(self._server)

    def answer(self, method: str, path: str) -> tuple[int, dict[str, Any]]:
        """Status and object for a request."""
        words = path.partition("?")[0].strip("/").split("/")
        if len(words) < 2 or not self._token or not hmac.compare_digest(words[0].encode(), self._token.encode()):
            return 404, {"message": "nothing here"}
        match (method, *words[1:]):
            case ("GET", "state"):
                return 200, self._state()
            case ("GET", "result", offset) if self.merged is not None and offset.isdigit():
                data = base64.b64encode(self.merged.read(int(offset), PIECE)).decode()
                return 200, {"offset": int(offset), "data": data, **self.merged.to_values()}
            case ("POST", "taken", digest) if self.merged is not None and digest == self.merged.sha256:
                return 200, {"taken": digest}
        return 404, {"message": "no such thing, or not yet"}

    def _serve(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ValueError), plain:
            wire.tune(plain)
            with self._context.wrap_socket(plain, server_side=True) as connection:
                head = b""
                while b"\r\n\r\n" not in head and len(head) < LONGEST:
                    data = connection.recv(4096)
                    if not data:
                        return
                    head += data
                method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                status, found = self.answer(method, path)
                body = json.dumps(found).encode()
                words = {200: "OK", 404: "Not Found"}[status]
                lines = f"HTTP/1.1 {status} {words}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                connection.sendall(f"{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body)
                if "taken" in found:
                    # Only now: the process may end right after.
                    self.taken.set()
                # Whoever is still sending would be told that the connection broke, and not hear the answer.
                connection.unwrap()
