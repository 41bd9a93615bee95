"""One tier's place on the way up as a process: takes results in, hands them on, keeps them while the way is cut.

The edge takes in what its tasks make and sends it up; a station and a region do the same with what comes from below;
the centre has nobody above, and keeps what arrives for its readers. A device that only sends needs no entry (port 0),
and no web server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

from cumulet.core.errors import CumuletError, ToolError, UsageError
from cumulet.spool.collect import Collector
from cumulet.spool.inbox import Inbox
from cumulet.spool.relay import relay
from cumulet.spool.send import Outcome, Sender, Target, make_client
from cumulet.spool.store import Spool

GIB = 1 << 30
ROUND_SECONDS = 0.5
COLLECT_SECONDS = 1.0
RENEWAL_SECONDS = 5.0
TIDY_SECONDS = 3600.0
PARTIAL_SECONDS = 14 * 86400.0
log = logging.getLogger("cumulet.spool")
Take = Callable[[str, bytes], object]
Gather = Callable[[Take], int]
"""Hands what else waits on this device to a function, each with an id of its own, and forgets what that has taken."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """A tier. `name` is its cluster's; `budget` bounds inbox and spool each, in bytes.

    With `authority`, `certificate` and `key` the entry wants client certificates; without them it listens on loopback
    only, and what comes is the tier's own. `trusted` are clusters below that may bring results of others: hubs.
    `up` are the parents, none for the centre; towards them `up_authority`, `up_certificate` and `up_key` are used, or
    the same as at the entry. `readers` may fetch what has arrived. What tasks leave below `collect` goes up too.
    """

    name: str
    folder: Path
    listen: str = "127.0.0.1"
    port: int = 8444
    budget: int = GIB
    keep_free: int = 64 << 20
    up: tuple[str, ...] = ()
    authority: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    trusted: frozenset[str] = field(default_factory=frozenset)
    mark: int = 0
    up_authority: Path | None = None
    up_certificate: Path | None = None
    up_key: Path | None = None
    readers: frozenset[str] = field(default_factory=frozenset)
    collect: Path | None = None
    node: str = ""


def make_target(settings: NodeSettings) -> Target:
    """Where results go from here."""
    own = settings.up_certificate is not None
    certificate, key = (settings.up_certificate, settings.up_key) if own else (settings.certificate, settings.key)
    return Target(settings.up, settings.up_authority or settings.authority, certificate, key, settings.mark)


def check_settings(settings: NodeSettings) -> None:
    """Raise UsageError for an entry that others can reach without a certificate."""
    files = (settings.authority, settings.certificate, settings.key)
    if None in files and settings.listen not in ("127.0.0.1", "::1", "localhost"):
        raise UsageError(
            f"{settings.listen}: is reachable by others, so it needs certificates",
            hint="--authority, --certificate and --key",
        )


async def run_node(
    settings: NodeSettings, permit: Callable[[str], bool] = lambda topic: True, gather: Gather = lambda take: 0
) -> None:
    """Run a tier until cancelled. `permit` is the uplink's; `gather` brings reports. Raises CumuletError."""
    check_settings(settings)
    inbox = Inbox(settings.folder / "inbox", settings.budget)
    spool = Spool(settings.folder / "spool", settings.budget, origin=settings.name, keep_free=settings.keep_free)
    stop = threading.Event()
    try:
        async with _entry(settings, inbox):
            await asyncio.gather(
                _hand_on(settings, inbox, spool, gather),
                _tidy(inbox),
                _collect(settings, spool),
                _send(settings, spool, permit, stop),
            )
    finally:
        stop.set()
        spool.close()
        inbox.close()


@contextlib.asynccontextmanager
async def _entry(settings: NodeSettings, inbox: Inbox) -> AsyncIterator[None]:
    """The entry for what comes from below, if there is to be one."""
    if not settings.port:
        log.info("%s: takes in nothing from others", settings.name)
        yield
        return
    from aiohttp import web  # noqa: PLC0415  (the extra `hub`)

    from cumulet.spool import receive  # noqa: PLC0415  (the extra `hub`)

    trust = None
    if settings.authority and settings.certificate and settings.key:
        trust = receive.make_trust(settings.authority, settings.certificate, settings.key)
    identify = receive.from_certificate if trust else lambda request: settings.name
    may_read = settings.readers.__contains__ if settings.readers else None
    app = receive.make_app(inbox, identify, make_rule(settings), may_read=may_read)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2)
    try:
        await runner.setup()
        await web.TCPSite(runner, settings.listen, settings.port, ssl_context=trust).start()
        log.info("%s: takes results at %s", settings.name, runner.addresses[0][1])
        yield
    finally:
        await runner.cleanup()


def make_rule(settings: NodeSettings) -> Callable[[str, str], bool]:
    """Who may bring results of whom: oneself, and hubs below for their own children."""
    return lambda peer, origin: peer == origin or peer in settings.trusted or peer == settings.name


async def _hand_on(settings: NodeSettings, inbox: Inbox, spool: Spool, gather: Gather) -> None:
    told = ""
    while settings.up:
        await asyncio.to_thread(relay, inbox, spool)
        line = await asyncio.to_thread(gather_reports, spool, gather)
        if line != told:
            log.warning("%s", line) if line else log.info("%s: reports go up again", settings.name)
        told = line
        await asyncio.sleep(ROUND_SECONDS)


async def _collect(settings: NodeSettings, spool: Spool) -> None:
    if settings.collect is None or not settings.up:
        return
    collector = Collector(settings.collect, spool, node=settings.node)
    while True:
        await asyncio.to_thread(collector.collect)
        await asyncio.sleep(COLLECT_SECONDS)


def gather_reports(spool: Spool, gather: Gather) -> str:
    """Put what waits into the spool; why not all of it could be put, or nothing. What could not, waits where it is.

    A cut between the two leaves a report in both; the next call puts the same id again, which changes nothing.
    """
    try:
        gather(lambda name, content: spool.put(content, id=name, meta={"kind": "report"}))
    except (CumuletError, OSError) as error:
        return str(error)
    return ""


async def _tidy(inbox: Inbox) -> None:
    while True:
        await asyncio.sleep(TIDY_SECONDS)
        await asyncio.to_thread(inbox.tidy, PARTIAL_SECONDS)


async def _send(settings: NodeSettings, spool: Spool, permit: Callable[[str], bool], stop: threading.Event) -> None:
    if not settings.up:
        return
    told = ""

    def tell(outcome: Outcome) -> None:
        nonlocal told
        line = outcome.error or "; ".join(outcome.refused.values())
        if line != told:
            log.warning("%s", line) if line else log.info("%s: results go up again", settings.name)
        told = line

    target = make_target(settings)
    while not stop.is_set():
        stamp, renewed = _stamp(target), threading.Event()
        try:
            client = make_client(target)
        except ToolError as error:
            # A device that has not been let in yet has no certificate yet.
            tell(Outcome(error=error.message))
            await asyncio.sleep(RENEWAL_SECONDS)
            continue
        with client:
            sender = Sender(spool, target, client, permit=permit)
            work = asyncio.ensure_future(asyncio.to_thread(sender.run, renewed, tell))
            try:
                while _stamp(target) == stamp and not work.done():
                    await asyncio.wait([work], timeout=RENEWAL_SECONDS)
            finally:
                renewed.set()
                await asyncio.wait([work])
            work.result()


def _stamp(target: Target) -> tuple[int, ...]:
    """When the files of a target were last changed: an agent's certificate is renewed every few weeks."""
    paths = [path for path in (target.authority, target.certificate, target.key) if path is not None]
    return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)
