"""The site's lock and journal, both on one device: a process there that lives as long as this one talks to it.

A second installer is refused with the name of the first. If this process dies the
connection ends and the lock with it; if the network goes, silence ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import json
import os
import platform
import shlex
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError
from cumulet.site.ssh import Host

if TYPE_CHECKING:
    import asyncssh

SCRIPT = Path(__file__).with_name("scripts") / "keeper.sh"
FOLDER = "/var/lib/cumulet/site"
BEAT_SECONDS = 10.0
HELD = 9


class Keeper:
    """Holds the lock and takes journal entries."""

    def __init__(self, host: Host, process: asyncssh.SSHClientProcess[str]) -> None:
        self.host = host
        self.process = process

    async def note(self, **entry: object) -> None:
        """Write an entry. Raises TargetError if the lock is lost."""
        await self._send(json.dumps({"at": round(time.time(), 3), **entry}, separators=(",", ":")))

    async def beat(self) -> None:
        """Say that we are still here, for ever."""
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            await self._send("")

    async def _send(self, line: str) -> None:
        if self.process.exit_status is not None:
            raise TargetError(f"{self.host.name}: the site's lock is lost", hint="run the same command again")
        try:
            self.process.stdin.write(line + "\n")
            await self.process.stdin.drain()
        except (OSError, ConnectionError) as error:
            message = f"{self.host.name}: the site's lock is lost: {error}"
            raise TargetError(message, hint="run the same command again") from error


def describe_owner() -> str:
    """Who this is, for somebody else who wants the lock."""
    return f"{getpass.getuser()}@{platform.node()}, process {os.getpid()}"


@contextlib.asynccontextmanager
async def hold(host: Host) -> AsyncIterator[Keeper]:
    """Hold the site's lock on a device. Raises TargetError if somebody else has it."""
    # bash, not sh: its read knows how long to wait.
    command = shlex.join(["bash", "-c", SCRIPT.read_text(), "keeper", describe_owner()])
    process = await host.connection.create_process(command)
    beat: asyncio.Task[None] | None = None
    try:
        answer = (await process.stdout.readline()).strip()
        if answer != "locked":
            await process.wait()
            raise _refused(host, answer, process.exit_status)
        keeper = Keeper(host, process)
        beat = asyncio.create_task(keeper.beat())
        yield keeper
    finally:
        if beat is not None:
            beat.cancel()
        process.stdin.write_eof()
        with contextlib.suppress(Exception):
            await asyncio.wait_for(process.wait(), 5)
        process.close()


def _refused(host: Host, answer: str, code: int | None) -> TargetError:
    if code == HELD:
        who = answer.removeprefix("held").strip() or "somebody"
        return TargetError(
            f"{host.name}: the site is being worked on by {who}",
            hint="wait for it to end; a dead one is let go after 60 s",
        )
    return TargetError(f"{host.name}: {FOLDER}: the lock cannot be taken: {answer or f'exit code {code}'}")
