"""The inbox as a web server: tus 1.0.0 for who shows a certificate; content goes out to named readers only.

Imported by name, since it needs aiohttp (the extra `hub`).
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path

from aiohttp import web

from cumulet.core.errors import CumuletError, ToolError, UsageError
from cumulet.spool.collect import TASK
from cumulet.spool.entry import dump_entry
from cumulet.spool.inbox import Arrival, ConflictError, FullError, Inbox
from cumulet.spool.wire import PIECE_TYPE, ROOT, TUS, make_path, read_metadata

SYNC_SIZE = 1 << 20
PAGE = 500
CLUSTER = re.compile(r"system:open-cluster-management:([^:]+):[^:]+")

Identify = Callable[[web.Request], str | None]
MaySpeak = Callable[[str, str], bool]
MayRead = Callable[[str], bool]


def from_certificate(request: web.Request) -> str | None:
    """Who asks, by its client certificate: the cluster of a registered agent, or the plain common name."""
    transport = request.transport
    shown = transport.get_extra_info("peercert") if transport is not None else None
    for group in (shown or {}).get("subject", ()):
        for name, value in group:
            if name == "commonName":
                agent = CLUSTER.fullmatch(value)
                return agent[1] if agent else str(value)
    return None


def speaks_for_itself(peer: str, origin: str) -> bool:
    """The rule of a hub whose children are all leaves: nobody brings content of somebody else."""
    return peer == origin


def make_trust(authority: Path, certificate: Path, key: Path) -> ssl.SSLContext:
    """TLS that demands a client certificate of `authority`. Raises ToolError if a file cannot be used."""
    try:
        trust = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=authority)
        trust.load_cert_chain(certificate, key)
    except OSError as error:
        raise ToolError(f"{authority}, {certificate} or {key}: {error.strerror or error}") from error
    trust.verify_mode = ssl.CERT_REQUIRED
    # As the sender: authorities of clusters do not all keep to the strict form.
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return trust


def make_app(
    inbox: Inbox, identify: Identify, may_speak: MaySpeak = speaks_for_itself, *, may_read: MayRead | None = None
) -> web.Application:
    """The web application over an inbox. `may_speak(peer, origin)`: may this peer bring content of that origin?

    `may_read(peer)`: may this peer see what has arrived from everybody, and say that it has taken it? Without it
    nothing goes out.
    """
    desk = _Desk(inbox, identify, may_speak)
    app = web.Application(middlewares=[_answer_errors], client_max_size=1 << 16)
    app.router.add_options(ROOT, desk.describe)
    app.router.add_post(ROOT, desk.begin)
    app.router.add_head(f"{ROOT}/{{origin}}/{{id}}", desk.progress)
    app.router.add_patch(f"{ROOT}/{{origin}}/{{id}}", desk.append)
    if may_read is not None:
        shelf = _Shelf(inbox, identify, may_read)
        app.router.add_get(ROOT, shelf.list_page, allow_head=False)
        app.router.add_get(f"{ROOT}/{{origin}}/{{id}}", shelf.read, allow_head=False)
        app.router.add_delete(f"{ROOT}/{{origin}}/{{id}}", shelf.take)
    return app


class _LockedError(web.HTTPClientError):
    status_code = 423


class _Desk:
    """The handlers. The inbox waits for the disk, so it is asked in threads."""

    def __init__(self, inbox: Inbox, identify: Identify, may_speak: MaySpeak) -> None:
        self._inbox, self._identify, self._may_speak = inbox, identify, may_speak
        self._busy: set[tuple[str, str]] = set()

    async def describe(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Tus-Version": TUS, "Tus-Extension": "creation"})

    async def begin(self, request: web.Request) -> web.Response:
        entry = read_metadata(request.headers)
        peer = self._admit(request, entry.origin)
        offset = await asyncio.to_thread(self._inbox.begin, entry, peer)
        headers = {"Location": make_path(entry), "Upload-Offset": str(offset)}
        return web.Response(status=201, headers=headers)

    async def progress(self, request: web.Request) -> web.Response:
        origin, name = request.match_info["origin"], request.match_info["id"]
        self._admit(request, origin)
        known = await asyncio.to_thread(self._inbox.progress, origin, name)
        if known is None:
            raise web.HTTPNotFound
        headers = {"Upload-Offset": str(known[0]), "Upload-Length": str(known[1]), "Cache-Control": "no-store"}
        return web.Response(headers=headers)

    async def append(self, request: web.Request) -> web.Response:
        origin, name = request.match_info["origin"], request.match_info["id"]
        self._admit(request, origin)
        if request.content_type != PIECE_TYPE:
            raise web.HTTPUnsupportedMediaType(text=f"send {PIECE_TYPE}")
        text = request.headers.get("Upload-Offset", "")
        if not text.isdigit():
            raise UsageError(f"Upload-Offset is {text[:40]!r}, must be a number")
        if (origin, name) in self._busy:
            raise _LockedError(text=f"{origin}/{name}: another connection is sending it")
        self._busy.add((origin, name))
        try:
            offset = await self._take_in(request, origin, name, int(text))
        finally:
            self._busy.discard((origin, name))
        return web.Response(status=204, headers={"Upload-Offset": str(offset)})

    async def _take_in(self, request: web.Request, origin: str, id: str, offset: int) -> int:
        """Keep what comes, also if it ends in the middle: every byte that is here need not come again."""
        known = await asyncio.to_thread(self._inbox.progress, origin, id)
        if known is None:
            raise web.HTTPNotFound
        if offset != known[0]:
            raise ConflictError(f"{origin}/{id}: {known[0]} bytes are here, not {offset}")
        held, room = bytearray(), known[1] - offset
        try:
            async for piece in request.content.iter_any():
                held += piece
                if len(held) > room:
                    raise UsageError(f"{origin}/{id}: more bytes came than were announced")
                if len(held) >= SYNC_SIZE:
                    offset = await asyncio.to_thread(self._inbox.append, origin, id, offset, bytes(held))
                    room -= len(held)
                    held.clear()
        except (OSError, asyncio.CancelledError, web.RequestPayloadError):
            if held:
                await asyncio.shield(asyncio.to_thread(self._inbox.append, origin, id, offset, bytes(held)))
            raise
        return await asyncio.to_thread(self._inbox.append, origin, id, offset, bytes(held))

    def _admit(self, request: web.Request, origin: str) -> str:
        """Who asks. Raises 401 for nobody, 403 for who may not speak for this origin, 412 for another protocol."""
        if request.headers.get("Tus-Resumable") != TUS:
            raise web.HTTPPreconditionFailed(text=f"speak tus {TUS}", headers={"Tus-Version": TUS})
        peer = self._identify(request)
        if peer is None:
            raise web.HTTPUnauthorized(text="show a client certificate")
        if not self._may_speak(peer, origin):
            raise web.HTTPForbidden(text=f"{peer} may not bring results of {origin[:140]}")
        return peer


class _Shelf:
    """What has arrived, for those who may read it."""

    def __init__(self, inbox: Inbox, identify: Identify, may_read: MayRead) -> None:
        self._inbox, self._identify, self._may_read = inbox, identify, may_read

    async def list_page(self, request: web.Request) -> web.Response:
        """Entries in the order of arrival, from `after` on; with `task`, those of one task. `next` is 0 at the end."""
        self._admit(request)
        after, task = request.query.get("after", "0"), request.query.get("task", "")
        if not after.isdigit():
            raise UsageError(f"after is {after[:40]!r}, must be a number")
        found = await asyncio.to_thread(self._inbox.list_arrivals, int(after), PAGE)
        shown = [json.loads(dump_entry(each.entry)) for each in found if not task or each.entry.meta.get(TASK) == task]
        last = found[-1].number if len(found) == PAGE else 0
        return web.json_response({"results": shown, "next": last}, headers={"Cache-Control": "no-store"})

    async def read(self, request: web.Request) -> web.StreamResponse:
        """The content, or a part of it."""
        return web.FileResponse((await self._find(request)).path, headers={"Content-Type": "application/octet-stream"})

    async def take(self, request: web.Request) -> web.Response:
        """Its content is kept elsewhere. Again: nothing happens."""
        await asyncio.to_thread(self._inbox.taken, await self._find(request))
        return web.Response(status=204)

    async def _find(self, request: web.Request) -> Arrival:
        self._admit(request)
        origin, name = request.match_info["origin"], request.match_info["id"]
        found = await asyncio.to_thread(self._inbox.find_arrival, origin, name)
        if found is None:
            raise web.HTTPNotFound
        return found

    def _admit(self, request: web.Request) -> None:
        peer = self._identify(request)
        if peer is None:
            raise web.HTTPUnauthorized(text="show a client certificate")
        if not self._may_read(peer):
            raise web.HTTPForbidden(text=f"{peer} may not read results: --reader {peer} lets it")


@web.middleware
async def _answer_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Our errors as answers: what is wrong with the request 400, what clashes 409, no room 507, trouble here 503."""
    try:
        answer = await handler(request)
    except UsageError as error:
        answer = web.Response(status=400, text=error.message)
    except ConflictError as error:
        answer = web.Response(status=409, text=error.message)
    except FullError as error:
        answer = web.Response(status=507, text=error.message)
    except (CumuletError, OSError) as error:
        answer = web.Response(status=503, text=str(error))
    answer.headers["Tus-Resumable"] = TUS
    return answer
