"""A queue of keys to be looked at: each once however often it is asked for, later again after an error."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cumulet.core.errors import CumuletError

FIRST_WAIT, MOST_WAIT = 1.0, 300.0
log = logging.getLogger("cumulet.central")


class WorkQueue:
    """Calls `handle(key)` for each key; it gives back after how many seconds to look again, or None."""

    def __init__(self, name: str, handle: Callable[[str], Awaitable[float | None]], workers: int = 4) -> None:
        self.name = name
        self.failed: dict[str, int] = {}
        self._handle = handle
        self._workers = workers
        self._ready: asyncio.Queue[str] = asyncio.Queue()
        self._waiting: set[str] = set()
        self._busy: set[str] = set()
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}

    def add(self, key: str) -> None:
        """Look at a key soon."""
        timer = self._later.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._again.add(key)
        elif key not in self._waiting:
            self._waiting.add(key)
            self._ready.put_nowait(key)

    def add_after(self, key: str, seconds: float) -> None:
        """Look at a key in `seconds`, or earlier if it is asked for."""
        loop = asyncio.get_running_loop()
        old = self._later.get(key)
        if old is not None:
            if old.when() <= loop.time() + seconds:
                return
            old.cancel()
        self._later[key] = loop.call_later(seconds, self.add, key)

    @property
    def idle(self) -> bool:
        """Whether nothing is waiting and nothing is being worked on; keys for later do not count."""
        return not (self._waiting or self._busy or self._again)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            key = await self._ready.get()
            self._waiting.discard(key)
            self._busy.add(key)
            try:
                seconds = await self._handle(key)
            except CumuletError as error:
                self._retry(key, error.message)
            except Exception:
                # One bad object must not end the work on all others.
                log.exception("%s: %s: this is a bug in cumulet", self.name, key)
                self._retry(key, "")
            else:
                self.failed.pop(key, None)
                if seconds is not None:
                    self.add_after(key, seconds)
            finally:
                self._busy.discard(key)
                if key in self._again:
                    self._again.discard(key)
                    self.add(key)

    def _retry(self, key: str, message: str) -> None:
        count = self.failed.get(key, 0)
        self.failed[key] = count + 1
        wait = min(FIRST_WAIT * 2**count, MOST_WAIT)
        if message:
            log.warning("%s: %s: %s (again in %.0f s)", self.name, key, message, wait)
        self.add_after(key, wait)
