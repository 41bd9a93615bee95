"""Packages on devices: the device's part is started there over ssh, told what to do, listened to, and ended.

It lives no longer than the channel that it was started on, and no longer than a minute
after the last sign of life from here.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import secrets
import shlex
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cumulet.core.errors import CumuletError, TargetError
from cumulet.packages import COMMAND, Index, load_public_text, make_bundle, parse_index, verify
from cumulet.site.actions import Handle
from cumulet.site.facts import SiteFacts
from cumulet.site.model import Packages, SiteDocument, Sources
from cumulet.site.packages import FAN_OUT, HOME, PORT, Holding, PackageFacts, list_wanted
from cumulet.site.parts import read_script
from cumulet.site.ssh import Host

if TYPE_CHECKING:
    import asyncssh

BEAT_SECONDS = 10.0
SILENCE_SECONDS = 60.0
"""How long a source may send nothing before a transfer is given up."""
ANSWER_SECONDS = 15.0
"""How long one connection may say nothing before another try."""
STALL_SECONDS = 1800.0
"""The longest that a device may work without a word: it unpacks or hashes something big."""
SHARED = "packages/shared"


class Call:
    """A device's part at work."""

    def __init__(self, host: Host, process: asyncssh.SSHClientProcess[bytes]) -> None:
        self.host = host
        self.process = process

    async def answer(self) -> dict[str, Any]:
        """What it says in the end. Raises TargetError with what it says is wrong."""
        while True:
            try:
                line = await asyncio.wait_for(self.process.stdout.readline(), STALL_SECONDS)
            except TimeoutError as error:
                raise TargetError(f"{self.host.name}: says nothing for {STALL_SECONDS:.0f} s") from error
            if not line:
                raise await self._explain()
            said: dict[str, Any] = json.loads(line)
            if "error" in said:
                raise TargetError(f"{self.host.name}: {said['error']}", hint=said["hint"])
            if "done" in said:
                done: dict[str, Any] = said["done"]
                return done

    async def _explain(self) -> TargetError:
        text = (await self.process.stderr.read()).decode(errors="replace").strip()
        await self.process.wait_closed()
        if self.process.exit_status is None:
            return TargetError(f"{self.host.name}: the connection broke", hint="run the same command again")
        reason = text.splitlines()[-1] if text else f"exit code {self.process.exit_status}"
        return TargetError(f"{self.host.name}: python3: {reason}", hint="its image needs: sdk: true")


@contextlib.asynccontextmanager
async def calling(host: Host, verb: str, **request: Any) -> AsyncIterator[Call]:
    """Start the device's part with a request; it ends with the block. Raises TargetError."""
    import asyncssh  # noqa: PLC0415 - slow to import

    values = {"verb": verb, "home": HOME, "login": "", "seconds": ANSWER_SECONDS, **request}
    values |= {"patience": SILENCE_SECONDS, "pause": 0.5}
    try:
        process = await host.connection.create_process(shlex.join(COMMAND), encoding=None)
        beat: asyncio.Task[None] | None = None
        try:
            process.stdin.write(make_bundle() + json.dumps(values).encode() + b"\n")
            beat = asyncio.create_task(_beat(process))
            yield Call(host, process)
        finally:
            if beat is not None:
                beat.cancel()
            with contextlib.suppress(OSError, asyncssh.Error):
                process.stdin.write_eof()
            with contextlib.suppress(TimeoutError, OSError, asyncssh.Error):
                await asyncio.wait_for(process.wait_closed(), 5)
            process.close()
    except (asyncssh.Error, OSError) as error:
        raise TargetError(f"{host.name}: the connection broke: {error}", hint="run the same command again") from error


async def _beat(process: asyncssh.SSHClientProcess[bytes]) -> None:
    """Say that we are still here, until the other side is not."""
    with contextlib.suppress(OSError):
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            process.stdin.write(b"\n")


async def ask(host: Host, verb: str, **request: Any) -> dict[str, Any]:
    """One request and its answer. Raises TargetError."""
    async with calling(host, verb, **request) as call:
        return await call.answer()


async def handle(action: Handle, host: Host, vault: dict[str, str], background: contextlib.AsyncExitStack) -> None:
    """Do an action of a plan. A device that hands packages on does so until `background` is closed."""
    if action.verb == "drop":
        await ask(host, "drop", names=action.names)
        return
    packages = [each.model_dump() | {"name": each.name, "title": each.title} for each in action.packages]
    if action.verb == "install":
        await ask(host, "install", packages=packages)
        return
    secret = vault.setdefault(SHARED, secrets.token_hex(16))
    sources = [f"{each}/{secret}" if each.startswith("peer://") else each for each in action.sources]
    listen = [action.listen, PORT, secret, FAN_OUT] if action.listen else None
    login = vault[f"file/{action.login}"].strip() if action.login else ""
    request = {"packages": packages, "sources": sources, "listen": listen, "login": login}
    if listen is None:
        await ask(host, "bring", **request)
    else:
        call = await background.enter_async_context(calling(host, "bring", **request))
        await call.answer()


async def look_at_packages(
    site: SiteDocument, sources: Sources, hosts: Mapping[str, Host], facts: SiteFacts
) -> SiteFacts:
    """Facts with the index and what every device has of it; the same facts if the site has no packages.

    Raises TargetError for an index that is not signed by the site's key, before anything of it is used.
    """
    if site.packages is None:
        return facts
    control = hosts[site.control.name]
    login = sources[site.packages.login].strip() if site.packages.login else ""
    answer = await ask(control, "index", source=site.packages.source, login=login)
    index, text, signature, kept = choose_index(answer, site.packages, sources)
    found = await asyncio.gather(*(_look(site, index, host, facts) for host in hosts.values()), return_exceptions=True)
    for each in found:
        if isinstance(each, BaseException):
            raise each
    holdings = {name: each for name, each in zip(hosts, found, strict=True) if isinstance(each, Holding)}
    return replace(facts, packages=PackageFacts(index, text, signature, kept, holdings))


def choose_index(answer: Mapping[str, Any], packages: Packages, sources: Sources) -> tuple[Index, str, str, bool]:
    """The index to go by: the one that was fetched; the one kept by the control node if the source is not there."""
    key = load_public_text(sources[packages.key], packages.key)
    kept = None
    if "kept" in answer:
        data, signature = (base64.b64decode(each) for each in answer["kept"])
        with contextlib.suppress(CumuletError):
            # One of another key is of another time, and no longer anything to go by.
            verify(data, signature, key, "the kept index")
            kept = data, signature, parse_index(data, "the kept index")
    if "fetched" not in answer:
        if kept is None:
            raise TargetError(
                f"{packages.source}: cannot be reached: {answer.get('reason', '')}", hint="run the same command again"
            )
        return kept[2], kept[0].decode(), kept[1].decode(), True
    data, signature = (base64.b64decode(each) for each in answer["fetched"])
    verify(data, signature, key, packages.source)
    index = parse_index(data, packages.source)
    if kept is not None and index.serial < kept[2].serial:
        raise TargetError(
            f"{packages.source}: shows index {index.serial}, which is older than {kept[2].serial} that was used before",
            hint="somebody has put an old one back; publish once more if that is what you want",
        )
    return index, data.decode(), signature.decode(), kept is not None and kept[0] == data


async def _look(site: SiteDocument, index: Index, host: Host, facts: SiteFacts) -> Holding:
    # The control node is asked for what any device is to have: it keeps the blobs for all of them.
    whose = list(facts.hosts) if host.name == site.control.name else [host.name]
    wanted = dict.fromkeys(each for name in whose for each in list_wanted(site, index, facts.hosts[name]))
    packages = [{"name": p.name, "kind": p.kind, "sha256": p.sha256, "tree": p.tree} for p in wanted]
    images: dict[str, str] = {}
    if any(each.images for each in wanted):
        listed = await host.run(["sh", "-s", "--", "list"], input=read_script("images.sh"), check=False)
        images = dict(line.split(" ") for line in listed.out.splitlines())
    told = await ask(host, "look", packages=packages)
    return Holding(frozenset(told["blobs"]), told["parts"], frozenset(told["placed"]), tuple(told["others"]), images)
