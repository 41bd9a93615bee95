"""The parts of a result on the merging member's disk, believed chunk by chunk, each index once.

Nothing is forced to the disk: members keep what they have contributed until the whole result is safe, so a part
that a power cut damages is asked for again. What is found after a restart is therefore hashed before it counts.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cumulet.core.errors import CumuletError, TargetError
from cumulet.core.files import raise_os_error
from cumulet.supercontainer.inside.values import CHUNK, Content, Meta


class SupersededError(CumuletError):
    """Somebody newer contributes for this index."""


class WrongChunkError(CumuletError):
    """A chunk is not what its digest says."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a member wants to contribute. `attempt` counts the replacements of an index, `life` tells starts apart."""

    index: int
    attempt: int
    life: str
    meta: Meta
    size: int
    node: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """A whole part. `digest` is the SHA-256 of its chunks' SHA-256."""

    index: int
    attempt: int
    life: str
    digest: str
    size: int
    meta: Meta
    path: Path


class Spool:
    """The parts of one job in a folder. Several threads may use it."""

    def __init__(self, folder: Path, job: str) -> None:
        self.folder = folder / job
        self._lock = threading.Lock()
        self._whole: dict[int, Stored] = {}
        self._takers: dict[int, Incoming] = {}
        self._past: set[str] = set()
        self._job = job
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._take_over()
        except OSError as error:
            raise_os_error(error, self.folder)

    @property
    def whole(self) -> dict[int, Stored]:
        """The parts that are there, by index."""
        with self._lock:
            return dict(self._whole)

    def begin(self, offer: Offer) -> Incoming | None:
        """Get ready for a part; None if the index has one already, whoever it is from.

        A newer attempt, or a newer start of the same one, takes over. Raises SupersededError for an older one.
        """
        with self._lock:
            if offer.index in self._whole:
                return None
            old = self._takers.get(offer.index)
            if offer.life in self._past or (old is not None and offer.attempt < old.offer.attempt):
                raise SupersededError(f"member {offer.index}: another one has taken its place")
            if old is not None:
                if old.offer.life != offer.life:
                    self._past.add(old.offer.life)
                old.close()
            made = Incoming(self, offer)
            self._takers[offer.index] = made
            return made

    def add(self, offer: Offer, content: Content) -> Stored:
        """The merging member's own part."""
        incoming = self.begin(offer)
        if incoming is not None:
            incoming.resume(0)
            for chunk in content.chunks():
                incoming.add(hashlib.sha256(chunk).digest(), chunk)
            incoming.finish()
        return self.whole[offer.index]

    def settle(self, incoming: Incoming, stored: Stored) -> None:
        """A part is whole: it has its name, and its line in the journal."""
        with self._lock:
            if self._takers.get(stored.index) is not incoming:
                raise SupersededError(f"member {stored.index}: another one has taken its place")
            incoming.path.replace(stored.path)
            values = {**asdict(stored), "path": stored.path.name, "meta": stored.meta.to_values()}
            with (self.folder / "journal.jsonl").open("a") as journal:
                journal.write(json.dumps(values) + "\n")
            self._whole[stored.index] = stored
            del self._takers[stored.index]
        incoming.close()

    def is_taker(self, incoming: Incoming) -> bool:
        """Whether nobody newer has come for the same index."""
        return self._takers.get(incoming.offer.index) is incoming

    def _take_over(self) -> None:
        """What an earlier start has left: the journal's parts that are still what it says."""
        with contextlib.suppress(FileNotFoundError):
            for line in (self.folder / "journal.jsonl").read_text().splitlines():
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    stored = self._read(json.loads(line))
                    if fold(hash_chunks(stored.path)) == stored.digest:
                        self._whole[stored.index] = stored

    def _read(self, values: dict[str, Any]) -> Stored:
        path = self.folder / str(values["path"])
        if not path.is_file():
            raise KeyError(path.name)
        return Stored(**{**values, "path": path, "meta": Meta.from_values(values["meta"])})


class Incoming:
    """A part that is coming: a file, and the digests of the chunks in it that are right."""

    def __init__(self, spool: Spool, offer: Offer) -> None:
        self.offer = offer
        self.path = spool.folder / f"{offer.index}.part"
        self._spool = spool
        try:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise_os_error(error, self.path)
        # A file's number may be given to another file once it is closed: never while somebody writes.
        self._lock = threading.Lock()
        self._closed = False
        # The last chunk may be half there, or shorter than the new result's.
        self.have = [digest for digest, size in _hash_file(self._file, offer.size) if size == CHUNK]

    def resume(self, count: int) -> None:
        """Keep so many chunks of what is there."""
        with self._lock:
            self._check()
            del self.have[count:]
            os.ftruncate(self._file, count * CHUNK)

    def add(self, digest: bytes, chunk: memoryview) -> None:
        """The next chunk. Raises WrongChunkError, SupersededError, or ToolError for a full disk."""
        if hashlib.sha256(chunk).digest() != digest:
            raise WrongChunkError(f"member {self.offer.index}: chunk {len(self.have) + 1} is not what its digest says")
        start, done = len(self.have) * CHUNK, 0
        with self._lock:
            self._check()
            try:
                while done < len(chunk):
                    done += os.pwrite(self._file, chunk[done:], start + done)
            except OSError as error:
                raise_os_error(error, self.path)
        self.have.append(digest)

    def finish(self) -> Stored:
        """All chunks are there. Raises SupersededError."""
        offer = self.offer
        if len(self.have) != -(-offer.size // CHUNK):
            raise TargetError(f"member {offer.index}: {len(self.have)} chunks came, which are not {offer.size} bytes")
        with self._lock:
            self._check()
            os.ftruncate(self._file, offer.size)
        path = self._spool.folder / f"{offer.index}.whole"
        stored = Stored(offer.index, offer.attempt, offer.life, fold(self.have), offer.size, offer.meta, path)
        self._spool.settle(self, stored)
        return stored

    def close(self) -> None:
        """Let go of the file; what is there stays."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._file)

    def _check(self) -> None:
        if self._closed or not self._spool.is_taker(self):
            raise SupersededError(f"member {self.offer.index}: another one has taken its place")


def hash_chunks(path: Path) -> list[bytes]:
    """The SHA-256 of every chunk of a file."""
    with path.open("rb") as stream:
        return [digest for digest, _ in _hash_file(stream.fileno(), path.stat().st_size)]


def fold(digests: list[bytes]) -> str:
    """One digest of many."""
    return hashlib.sha256(b"".join(digests)).hexdigest()


def _hash_file(handle: int, most: int) -> Iterator[tuple[bytes, int]]:
    start = 0
    while start < most and (data := os.pread(handle, min(CHUNK, most - start), start)):
        yield hashlib.sha256(data).digest(), len(data)
        start += len(data)
