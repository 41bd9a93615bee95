"""The spool: content on disk until the tier above has it.

    new/TOKEN/        being written; whatever is here at the start was not promised to anybody
    entries/SEQ.ID/   entry.json and data: promised
    gone/TOKEN/       done with, being removed
    broken/           promised and damaged: kept for a person to look at, and counted

An entry is promised when `put` returns: content, description and names are on disk by then, in this
order, and one rename makes it visible. One process owns a spool.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import CumuletError, ToolError, UsageError
from cumulet.spool.disk import Disk, make_folders
from cumulet.spool.entry import Entry, check_entry, dump_entry, load_entry, make_id

PIECE = 1 << 16
BLOCK = 4096
MIB = 1 << 20
# Of these only the newest matter: they make room for what must not be lost.
DROPPABLE = frozenset({"status"})


class SpoolFullError(ToolError):
    """The spool's budget, or the disk, has no room for what was to be put."""


@dataclass(frozen=True, slots=True)
class Usage:
    """How full a spool is: bytes on disk with what is being written, entries, and damaged entries set aside."""

    used: int
    budget: int
    entries: int
    broken: int
    oldest: float | None


class Spool:
    """Content that waits for its way up. Threads may share it; a second process may not.

    `budget` bounds what lies here, in bytes on disk; `keep_free` is what the disk must have left.
    Raises ToolError if another process has it.
    """

    def __init__(
        self,
        folder: Path,
        budget: int,
        *,
        origin: str,
        keep_free: int = 64 * MIB,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.budget, self.origin = folder, budget, origin
        self._keep_free, self._disk, self._clock = keep_free, disk or Disk(), clock
        self._new, self._entries = folder / "new", folder / "entries"
        self._gone, self._broken = folder / "gone", folder / "broken"
        self._guard, self._used, self._next = threading.RLock(), 0, 1
        self._known: dict[tuple[str, str], tuple[Path, Entry]] = {}
        make_folders(folder, self._new, self._entries, self._gone, self._broken)
        self._lock = _own(folder / "lock")
        self._recover()

    def close(self) -> None:
        """Let go of the spool, so that another process may have it. Again: nothing happens."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def put(
        self,
        content: bytes | Path | Iterable[bytes],
        *,
        id: str = "",
        topic: str = "result",
        origin: str = "",
        meta: Mapping[str, str] | None = None,
        created: float | None = None,
    ) -> Entry:
        """Keep content until the tier above has it; on return it survives a power cut.

        The same id with the same content again changes nothing. Raises UsageError for an id that has other
        content, SpoolFullError if there is no room; then nothing is kept.
        """
        place = self._new / secrets.token_hex(8)
        try:
            self._make_room(_size_of(content))
            self._disk.make_folder(place)
            size, digest = self._write_data(place, _pieces(content))
            when = round(self._clock(), 3) if created is None else created
            made = Entry(id or make_id(), origin or self.origin, topic, size, digest, when, dict(meta or {}))
            check_entry(made)
            self._disk.write(place / "entry.json", [dump_entry(made).encode()])
            self._disk.sync_folder(place)
            return self._promise(place, made)
        except OSError as error:
            self._abandon(place)
            raise _describe(error, self.folder) from error
        except BaseException:
            self._abandon(place)
            raise

    def entries(self, *topics: str) -> list[Entry]:
        """What waits, oldest first; of these topics, or of all."""
        with self._guard:
            known = sorted(self._known.values(), key=lambda each: each[0].name)
        return [entry for _, entry in known if not topics or entry.topic in topics]

    def read(self, entry: Entry, offset: int, size: int) -> bytes:
        """At most `size` bytes of an entry's content from `offset` on. Raises ToolError if it is not here."""
        place = self._known.get((entry.origin, entry.id))
        if place is None:
            raise ToolError(f"{self.folder}: {entry.origin}/{entry.id} is not here any more")
        with (place[0] / "data").open("rb") as stream:
            stream.seek(offset)
            return stream.read(size)

    def done(self, entry: Entry) -> None:
        """The tier above has it: forget it. Again, or for something unknown: nothing happens."""
        with self._guard:
            known = self._known.pop((entry.origin, entry.id), None)
            if known is None:
                return
            place, entry = known
            self._used -= _cost(entry)
            self._forget(place)

    def _forget(self, place: Path) -> None:
        gone = self._gone / secrets.token_hex(8)
        self._disk.rename(place, gone)
        self._disk.sync_folder(self._entries)
        self._disk.remove(gone)

    def usage(self) -> Usage:
        """How full it is."""
        with self._guard:
            entries = [entry for _, entry in self._known.values()]
            used = self._used
        broken = sum(1 for _ in self._broken.iterdir())
        oldest = min((entry.created for entry in entries), default=None)
        return Usage(used, self.budget, len(entries), broken, oldest)

    def _write_data(self, place: Path, pieces: Iterator[bytes]) -> tuple[int, str]:
        digest, size = hashlib.sha256(), 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for piece in pieces:
                self._make_room(len(piece), growing=True)
                size += len(piece)
                digest.update(piece)
                yield piece

        try:
            self._disk.write(place / "data", counted())
        finally:
            with self._guard:
                self._used -= size
        return size, digest.hexdigest()

    def _promise(self, place: Path, made: Entry) -> Entry:
        with self._guard:
            old = self._known.get((made.origin, made.id))
            if old is not None:
                self._disk.remove(place)
                if old[1].sha256 != made.sha256:
                    raise UsageError(f"{self.folder}: {made.origin}/{made.id} is here with other content")
                return old[1]
            final = self._entries / f"{self._next:016d}.{made.id}"
            self._next += 1
            self._disk.rename(place, final)
            try:
                self._disk.sync_folder(self._entries)
            finally:
                # It is visible from here on, on whatever side of an error: better twice than never.
                self._known[(made.origin, made.id)] = (final, made)
                self._used += _cost(made)
        return made

    def _make_room(self, more: int, *, growing: bool = False) -> None:
        """Raise SpoolFullError if `more` bytes do not fit; droppable entries go first, the oldest before others."""
        with self._guard:
            if self._used + more > self.budget:
                self._drop_old(self._used + more - self.budget)
            if self._used + more > self.budget:
                mib = f"{self._used >> 20} of {self.budget >> 20} MiB"
                message = f"{self.folder}: full: {mib}, {len(self._known)} entries"
                raise SpoolFullError(message, hint="give the spool a larger budget, or wait until the uplink is back")
            facts = os.statvfs(self.folder)
            if facts.f_bavail * facts.f_frsize - more < self._keep_free:
                raise SpoolFullError(f"{self.folder}: the disk is full", hint="free some space on it")
            if growing:
                self._used += more

    def _drop_old(self, want: int) -> None:
        for entry in self.entries(*DROPPABLE):
            if want <= 0:
                break
            want -= _cost(entry)
            self.done(entry)

    def _abandon(self, place: Path) -> None:
        try:
            self._disk.remove(place)
        except OSError:
            return  # the next start does it

    def _recover(self) -> None:
        """Remove what was never promised, find what was, set aside what is damaged."""
        for place in (*self._new.iterdir(), *self._gone.iterdir()):
            self._disk.remove(place)
        for place in sorted(self._entries.iterdir()):
            number, _, _ = place.name.partition(".")
            self._next = max(self._next, int(number) + 1 if number.isdigit() else 1)
            try:
                entry = load_entry((place / "entry.json").read_text())
                whole = (place / "data").stat().st_size == entry.size
            except (OSError, ValueError, CumuletError):
                whole = False
            if not whole:
                self._disk.rename(place, self._broken / place.name)
            elif (entry.origin, entry.id) in self._known:
                self._forget(place)
            else:
                self._known[(entry.origin, entry.id)] = (place, entry)
                self._used += _cost(entry)
        self._disk.sync_folder(self._entries)


def _own(path: Path) -> int:
    """Hold a file's lock until it is closed. Raises ToolError if another process holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise ToolError(f"{path.parent}: another process has this spool", hint="end it, or name another folder") from (
            error
        )
    return handle


def _size_of(content: bytes | Path | Iterable[bytes]) -> int:
    if isinstance(content, bytes):
        return len(content)
    if isinstance(content, Path):
        return content.stat().st_size
    return 0


def _pieces(content: bytes | Path | Iterable[bytes]) -> Iterator[bytes]:
    if isinstance(content, bytes):
        yield from (content[start : start + PIECE] for start in range(0, len(content), PIECE))
    elif isinstance(content, Path):
        with content.open("rb") as stream:
            while piece := stream.read(PIECE):
                yield piece
    else:
        yield from content


def _cost(entry: Entry) -> int:
    """What an entry takes on disk: whole blocks, one for its description, one for its folder."""
    return -(-entry.size // BLOCK) * BLOCK + 2 * BLOCK


def _describe(error: OSError, folder: Path) -> ToolError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpoolFullError(f"{folder}: the disk is full", hint="free some space on it")
    return ToolError(f"{error.filename or folder}: {error.strerror or error}")
