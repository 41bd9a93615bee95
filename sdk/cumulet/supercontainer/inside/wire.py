"""How members talk: short JSON messages and whole chunks, over TLS where both sides show a certificate of the job."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cumulet.core.errors import TargetError

VERSION: Final = 1
LONGEST: Final = 8 << 20
DIGEST: Final = 32
CONNECT_SECONDS: Final = 5.0
SILENCE_SECONDS: Final = 20.0
"""The other side says something at least every `BEAT_SECONDS`; after this long without a byte it is gone."""
BEAT_SECONDS: Final = 2.0
BUFFER: Final = 1 << 21
Message = dict[str, Any]


class BrokenError(TargetError):
    """The other side is not there, or says what makes no sense: worth another try."""


def make_server_context(trust: Path, *, members: bool = True) -> ssl.SSLContext:
    """For who listens. `members`: whoever comes must show a certificate of the job. `trust` has the files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(trust / "tls.crt", trust / "tls.key")
    context.num_tickets = 0
    if members:
        context.load_verify_locations(trust / "ca.crt")
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def make_client_context(trust: Path) -> ssl.SSLContext:
    """For who connects: only members of this very job are believed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(trust / "tls.crt", trust / "tls.key")
    context.load_verify_locations(trust / "ca.crt")
    return context


def name_member(index: int) -> str:
    """The name in a member's certificate."""
    return f"member-{index}"


def find_member(connection: ssl.SSLSocket) -> int:
    """Which member the other side's certificate is for. Raises BrokenError."""
    found = connection.getpeercert() or {}
    names: Any = found.get("subjectAltName", ())
    for kind, name in names:
        if kind == "DNS" and str(name).startswith("member-"):
            return int(str(name).removeprefix("member-"))
    raise BrokenError("a certificate that is no member's")


def open_server(address: str, port: int) -> socket.socket:
    """A listening socket. Raises TargetError."""
    family = socket.AF_INET6 if ":" in address or (not address and socket.has_dualstack_ipv6()) else socket.AF_INET
    both = not address and family == socket.AF_INET6
    try:
        return socket.create_server((address, port), family=family, backlog=64, dualstack_ipv6=both)
    except OSError as error:
        raise TargetError(f"port {port}: cannot be listened on: {describe(error)}") from error


def serve_each(server: socket.socket, serve: Callable[[socket.socket], None]) -> None:
    """Give everybody who comes a thread of his own, until the server is closed. In a thread, too."""

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = server.accept()
                threading.Thread(target=serve, args=(plain,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()


def close_server(server: socket.socket) -> None:
    """Stop listening."""
    # Closed alone, it would be held by the thread that waits for somebody to come.
    with contextlib.suppress(OSError):
        server.shutdown(socket.SHUT_RDWR)
    server.close()


def connect(address: tuple[str, int], context: ssl.SSLContext, name: str) -> ssl.SSLSocket:
    """A connection to a member. Raises BrokenError with the reason."""
    try:
        plain = socket.create_connection(address, CONNECT_SECONDS)
        tune(plain)
        try:
            return context.wrap_socket(plain, server_hostname=name)
        except BaseException:
            plain.close()
            raise
    except (OSError, ValueError) as error:
        raise BrokenError(f"{address[0]}:{address[1]}: {describe(error)}") from error


def tune(plain: socket.socket) -> None:
    """Long buffers, no waiting for small messages, and no endless silence."""
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        plain.setsockopt(socket.SOL_SOCKET, option, BUFFER)
    plain.settimeout(SILENCE_SECONDS)


def send(connection: socket.socket, message: Message) -> None:
    """Send a message. Raises BrokenError."""
    data = json.dumps(message, separators=(",", ":")).encode()
    send_bytes(connection, struct.pack(">I", len(data)) + data)


def send_bytes(connection: socket.socket, data: bytes | memoryview) -> None:
    """Send bytes as they are. Raises BrokenError."""
    try:
        connection.sendall(data)
    except OSError as error:
        raise BrokenError(f"the connection broke: {describe(error)}") from error


def receive(connection: socket.socket) -> Message:
    """The next message. Raises BrokenError."""
    head = bytearray(4)
    receive_into(connection, memoryview(head))
    (length,) = struct.unpack(">I", head)
    if length > LONGEST:
        raise BrokenError(f"a message of {length} bytes")
    body = bytearray(length)
    receive_into(connection, memoryview(body))
    try:
        found = json.loads(body)
    except ValueError as error:
        raise BrokenError("a message that is no JSON") from error
    if not isinstance(found, dict):
        raise BrokenError("a message that is no object")
    return found


def receive_into(connection: socket.socket, view: memoryview) -> None:
    """Fill all of `view`. Raises BrokenError."""
    done = 0
    try:
        while done < len(view):
            count = connection.recv_into(view[done:])
            if not count:
                raise BrokenError("the other side has gone")
            done += count
    except OSError as error:
        raise BrokenError(f"the connection broke: {describe(error)}") from error


def describe(error: Exception) -> str:
    """Why, in few words."""
    if isinstance(error, TimeoutError):
        return "no answer"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not good: {error.verify_message}"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
