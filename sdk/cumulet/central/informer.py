"""Knows what objects there are: lists them in pages, then follows the changes, and goes on where it was.

Only what `keep` makes of an object stays in memory. After a broken connection the
watch goes on from the last resourceVersion; only when the server has forgotten
that one, everything is listed again and compared.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from cumulet.central.kube import SILENCE_SECONDS, Json, Kube, Query, RefusedError
from cumulet.central.link import UnreachableError

Kept = TypeVar("Kept")
FIRST_WAIT, MOST_WAIT = 1.0, 60.0
log = logging.getLogger("cumulet.central")


def make_key(found: Json) -> str:
    """`namespace/name`, or the name of what is in no namespace."""
    meta = found["metadata"]
    return f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else str(meta["name"])


class Informer(Generic[Kept]):
    """The objects of a query, by key. `changed` is called with key, old and new (None: not there)."""

    def __init__(
        self,
        kube: Kube,
        query: Query,
        keep: Callable[[Json], Kept | None],
        changed: Callable[[str, Kept | None, Kept | None], None] = lambda key, old, new: None,
        *,
        silence: float = SILENCE_SECONDS,
        names: Callable[[Json], str] = make_key,
    ) -> None:
        self.kube = kube
        self.query = query
        self.found: dict[str, Kept] = {}
        self.synced = asyncio.Event()
        self.version = ""
        self.lists = 0
        self._keep, self._changed, self._silence, self._names = keep, changed, silence, names

    def __len__(self) -> int:
        return len(self.found)

    def __iter__(self) -> Iterator[str]:
        return iter(self.found)

    def get(self, key: str) -> Kept | None:
        """What is kept of an object, or None."""
        return self.found.get(key)

    async def run(self) -> None:
        """Follow the objects until cancelled."""
        wait = FIRST_WAIT
        while True:
            try:
                if not self.version:
                    await self.load()
                wait = FIRST_WAIT
                await self.follow()
            except RefusedError as error:
                if error.status == 410:
                    self.version = ""
                    continue
                log.warning("%s", error.message)
            except UnreachableError as error:
                log.info("%s", error.message)
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 - not all at once
            wait = min(wait * 2, MOST_WAIT)

    async def load(self) -> None:
        """List everything, page by page; what is not there any more goes."""
        seen: set[str] = set()
        version = ""
        async for page in self.kube.pages(self.query):
            version = page["metadata"]["resourceVersion"]
            for item in page.get("items") or []:
                seen.add(self._names(item))
                self._put(item)
        for key in [key for key in self.found if key not in seen]:
            self._drop(key)
        self.version = version
        self.lists += 1
        self.synced.set()

    async def follow(self) -> None:
        """Take in changes until the server ends the watch."""
        async for event in self.kube.watch(self.query, self.version, self._silence):
            if event.kind == "DELETED":
                self._drop(self._names(event.object))
            elif event.kind != "BOOKMARK":
                self._put(event.object)
            self.version = event.object["metadata"]["resourceVersion"]

    def _put(self, item: Json) -> None:
        key = self._names(item)
        kept = self._keep(item)
        if kept is None:
            self._drop(key)
            return
        old = self.found.get(key)
        self.found[key] = kept
        if old != kept:
            self._changed(key, old, kept)

    def _drop(self, key: str) -> None:
        old = self.found.pop(key, None)
        if old is not None:
            self._changed(key, old, None)
