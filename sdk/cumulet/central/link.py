"""One connection to an API server: HTTP/1.1 over TLS, with a limit on every silence."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any

import h11

from cumulet.central.access import Access
from cumulet.core.errors import ToolError

CHUNK = 1 << 16
KEEPALIVE_SECONDS = 30
KEEPALIVE_PROBES = 4
# OpenSSL's numbers for a certificate that is not valid yet, and for one that is not any more.
WRONG_TIME = {9: "is not valid yet", 10: "has expired"}


class UnreachableError(ToolError):
    """The other end cannot be reached, or has stopped to answer. What was asked may or may not have happened."""


class Link:
    """An open connection. It carries one request at a time; `close` it, or use it again while `reusable`."""

    def __init__(self, streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], patience: float, name: str) -> None:
        self._reader, self._writer = streams
        self._http = h11.Connection(h11.CLIENT)
        self._patience = patience
        self._name = name

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        if self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
        return self._http.our_state is h11.IDLE and not self._reader.at_eof() and not self._writer.is_closing()

    async def send(self, method: str, target: str, headers: Sequence[tuple[str, str]], body: bytes) -> None:
        """Send a request. Raises UnreachableError."""
        data = self._http.send(h11.Request(method=method, target=target, headers=list(headers))) or b""
        if body:
            data += self._http.send(h11.Data(data=body)) or b""
        data += self._http.send(h11.EndOfMessage()) or b""
        try:
            self._writer.write(data)
            async with asyncio.timeout(self._patience):
                await self._writer.drain()
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"{self._name}: {describe(error, self._patience)}") from error

    async def head(self) -> tuple[int, dict[str, str]]:
        """The status and the headers (small letters) of the answer. Raises UnreachableError."""
        while True:
            event = await self._event(self._patience)
            if isinstance(event, h11.Response):
                return event.status_code, {name.decode(): value.decode("latin-1") for name, value in event.headers}
            if not isinstance(event, h11.InformationalResponse):
                raise UnreachableError(f"{self._name}: the connection was closed before an answer came")

    async def chunks(self, patience: float | None = None) -> AsyncIterator[bytes]:
        """The body as it comes. Raises UnreachableError after `patience` seconds of silence."""
        while True:
            event = await self._event(patience or self._patience)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
                return

    async def _event(self, patience: float) -> Any:
        try:
            while True:
                event = self._http.next_event()
                if event is not h11.NEED_DATA:
                    return event
                async with asyncio.timeout(patience):
                    self._http.receive_data(await self._reader.read(CHUNK))
        except h11.RemoteProtocolError as error:
            raise UnreachableError(f"{self._name}: the connection broke off: {error}") from error
        except (OSError, TimeoutError) as error:
            raise UnreachableError(f"{self._name}: {describe(error, patience)}") from error

    def close(self) -> None:
        """Leave the connection at once."""
        with contextlib.suppress(RuntimeError):  # the loop may have ended
            transport = self._writer.transport
            transport.abort()


async def open_link(access: Access, context: ssl.SSLContext, patience: float) -> Link:
    """Connect. Raises UnreachableError; a certificate at fault is named, with the clock if it may be that."""
    name = f"{access.host}:{access.port}"
    raw: socket.socket | None = None
    try:
        async with asyncio.timeout(patience * 2):
            raw = await _connect(access, patience)
            server = access.server_name or access.host
            streams = await asyncio.open_connection(
                sock=raw, ssl=context, server_hostname=server, ssl_handshake_timeout=patience
            )
    except (OSError, TimeoutError) as error:
        if raw is not None:
            raw.close()
        raise UnreachableError(f"{name}: {describe(error, patience)}", hint=_hint(error)) from error
    return Link(streams, patience, name)


async def _connect(access: Access, patience: float) -> socket.socket:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(access.host, access.port, type=socket.SOCK_STREAM)
    failed: OSError | None = None
    for family, kind, protocol, _, address in found:
        raw = socket.socket(family, kind, protocol)
        try:
            raw.setblocking(False)
            _tune(raw, access.segment)
            async with asyncio.timeout(patience):
                await loop.sock_connect(raw, address)
        except OSError as error:  # a timeout is one too
            raw.close()
            failed = error
        except BaseException:
            raw.close()
            raise
        else:
            return raw
    raise failed or OSError("no address")


def _tune(raw: socket.socket, segment: int) -> None:
    """Notice a dead peer, send small requests at once, and fit through narrow links that say nothing of it."""
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_SECONDS)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if segment:
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, segment)


def describe(error: BaseException, patience: float) -> str:
    """What went wrong on a connection, in plain words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        wrong = WRONG_TIME.get(error.verify_code)
        return f"its certificate {wrong}" if wrong else f"its certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    if isinstance(error, TimeoutError):
        return f"no answer for {patience:.0f} s"
    if isinstance(error, socket.gaierror):
        return "no such name"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__


def _hint(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code in WRONG_TIME:
        return "check this device's clock"
    return ""
