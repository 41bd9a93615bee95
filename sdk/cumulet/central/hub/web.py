"""The hub's entry over HTTP: a small server, and a table of routes that others add to.

Requests and answers are values; a body may be read as it comes. What it serves by
itself says whether the hub lives, is ready, and how it is (`/metrics`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import h11

from cumulet import __version__
from cumulet.core.errors import CumuletError, UsageError

CHUNK = 1 << 16
MOST_BODY = 1 << 20
PATIENCE = 30.0
MOST_CONNECTIONS = 500
log = logging.getLogger("cumulet.hub")


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked. `headers` have small letters; `rest` is what follows the route's path."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: AsyncIterator[bytes]
    rest: str = ""

    async def read(self, most: int = MOST_BODY) -> bytes:
        """The whole body. Raises TooBigError when it is more than `most` bytes."""
        found = bytearray()
        async for chunk in self.body:
            found += chunk
            if len(found) > most:
                raise TooBigError(f"{self.path}: more than {most} bytes")
        return bytes(found)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered; `stream` in place of `body` when it comes piece by piece."""

    status: int = 200
    body: bytes = b""
    content: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = field(default_factory=dict)
    stream: AsyncIterator[bytes] | None = None


class TooBigError(UsageError):
    """A body is bigger than what it is sent to takes."""


Handler = Callable[[Request], Awaitable[Answer]]


class Web:
    """A server of routes. `add("GET", "/api/", handler)`: a path that ends with a slash takes all below it."""

    def __init__(self) -> None:
        self.routes: dict[tuple[str, str], Handler] = {}
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[Any]] = set()

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Serve a path; a second handler for it takes the place of the first."""
        self.routes[(method, path)] = handler

    def find(self, method: str, path: str) -> tuple[Handler, str] | int:
        """The handler and the rest of the path, or the status of a refusal."""
        exact = self.routes.get((method, path))
        if exact is not None:
            return exact, ""
        below = [
            (len(p), p, h) for (m, p), h in self.routes.items() if m == method and p[-1:] == "/" and path[: len(p)] == p
        ]
        if below:
            _, prefix, handler = max(below, key=lambda each: each[0])
            return handler, path[len(prefix) :]
        known = any(p == path or (p[-1:] == "/" and path.startswith(p)) for _, p in self.routes)
        return HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.NOT_FOUND

    async def start(self, host: str, port: int, context: ssl.SSLContext | None = None) -> int:
        """Listen; gives back the port, which the kernel chooses for 0."""
        self._server = await asyncio.start_server(self._serve, host, port, ssl=context, limit=CHUNK)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Leave every connection."""
        if self._server is not None:
            self._server.close()
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a connection is served by a task
        self._open.add(task)
        try:
            if len(self._open) <= MOST_CONNECTIONS:
                await _Talk(self, reader, writer).run()
        except (OSError, TimeoutError, h11.ProtocolError) as error:
            log.debug("connection: %s", error)
        except asyncio.CancelledError:
            pass
        finally:
            self._open.discard(task)
            with contextlib.suppress(Exception):
                writer.close()


class _Talk:
    """One connection: its requests one after the other."""

    def __init__(self, web: Web, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.web, self.reader, self.writer = web, reader, writer
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 15)

    async def run(self) -> None:
        """Answer until the other end has enough."""
        while True:
            head = await self._event()
            if not isinstance(head, h11.Request):
                return
            await self._send(await self._answer(head), head.method == b"HEAD")
            if self.http.our_state is not h11.DONE or self.http.their_state is not h11.DONE:
                return
            self.http.start_next_cycle()

    async def _answer(self, head: h11.Request) -> Answer:
        parts = urlsplit(head.target.decode("ascii", "replace"))
        path, method = unquote(parts.path), head.method.decode()
        found = self.web.find("GET" if method == "HEAD" else method, path)
        if isinstance(found, int):
            return Answer(found, f"{HTTPStatus(found).phrase}\n".encode())
        handler, rest = found
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        try:
            return await handler(Request(method, path, query, headers, self._body(), rest))
        except TooBigError as error:
            return Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{error.message}\n".encode())
        except UsageError as error:
            return Answer(HTTPStatus.BAD_REQUEST, f"{error.message}\n".encode())
        except CumuletError as error:
            log.warning("%s %s: %s", method, path, error.message)
            return Answer(HTTPStatus.BAD_GATEWAY, f"{error.message}\n".encode())
        except (OSError, h11.ProtocolError):
            raise
        except Exception:
            # One bad request must not end the entry for all others.
            log.exception("%s %s: this is a bug in cumulet", method, path)
            return Answer(HTTPStatus.INTERNAL_SERVER_ERROR, b"this is a bug of the hub; its log says more\n")

    async def _body(self) -> AsyncIterator[bytes]:
        if self.http.they_are_waiting_for_100_continue:
            go_on = h11.InformationalResponse(status_code=100, headers=[])
            self.writer.write(self.http.send(go_on) or b"")
        while self.http.their_state is h11.SEND_BODY:
            event = await self._event()
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif not isinstance(event, h11.EndOfMessage):
                raise ConnectionResetError("the other end has left")

    async def _event(self) -> Any:
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            async with asyncio.timeout(PATIENCE):
                self.http.receive_data(await self.reader.read(CHUNK))

    async def _send(self, answer: Answer, head_only: bool) -> None:
        headers = {"content-type": answer.content, "server": f"cumulet/{__version__}", **answer.headers}
        if answer.stream is None:
            headers["content-length"] = str(len(answer.body))
        if self.http.their_state not in (h11.DONE, h11.MUST_CLOSE):
            # An unread body: nothing more can be told apart from it.
            headers["connection"] = "close"
        start = h11.Response(status_code=answer.status, headers=list(headers.items()))
        self.writer.write(self.http.send(start) or b"")
        if answer.stream is not None and not head_only:
            async for chunk in answer.stream:
                self.writer.write(self.http.send(h11.Data(data=chunk)) or b"")
                await self.writer.drain()
        elif answer.body and not head_only:
            self.writer.write(self.http.send(h11.Data(data=answer.body)) or b"")
        self.writer.write(self.http.send(h11.EndOfMessage()) or b"")
        async with asyncio.timeout(PATIENCE):
            await self.writer.drain()
