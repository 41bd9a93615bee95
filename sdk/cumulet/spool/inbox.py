"""The inbox: takes content in piece by piece, and counts each id once, for good.

    ledger.sqlite     every id that ever began, how many bytes of it are safe, and whether it is here
    partial/KEY       content that is still coming
    arrived/KEY       whole, and verified against its digest

The ledger is SQLite with every commit on disk. What is acknowledged is on disk before: first the bytes,
then the number of safe bytes. After a power cut a partial file is cut back to what was safe.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import TargetError, ToolError
from cumulet.spool.disk import Disk, make_folders
from cumulet.spool.entry import Entry, check_entry, dump_entry, load_entry

DAY = 86400.0
PIECE = 1 << 20
SCHEMA = """
create table if not exists uploads (
    origin text not null,
    id text not null,
    entry text not null,
    size integer not null,
    sha256 text not null,
    safe integer not null default 0,
    state text not null default 'partial' check (state in ('partial', 'arrived', 'taken')),
    peer text not null,
    changed real not null,
    number integer,
    primary key (origin, id)
) without rowid;
create index if not exists numbers on uploads (number);
create index if not exists waiting on uploads (number) where state = 'arrived';
create index if not exists here on uploads (size) where state != 'taken';
"""


class ConflictError(TargetError):
    """An id is here already with other content, or a piece does not begin where the last one ended."""


class FullError(ToolError):
    """The inbox has no room for what was announced."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """Whole content: its entry, the file with it, its number in the order of arrival, and who handed it over."""

    entry: Entry
    path: Path
    number: int
    peer: str


class Inbox:
    """What comes from below. Threads may share it. Raises ToolError if its ledger cannot be opened.

    `budget` bounds the bytes that lie here, announced ones included; `remember` is how many days an id is
    known after its content was taken.
    """

    def __init__(
        self,
        folder: Path,
        budget: int,
        *,
        remember: float = 400.0,
        disk: Disk | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.budget, self.remember = folder, budget, remember
        self._disk, self._clock, self._guard = disk or Disk(), clock, threading.RLock()
        self._partial, self._arrived = folder / "partial", folder / "arrived"
        # The digest so far of what is coming, so that the last byte does not mean reading everything again.
        self._digests: dict[str, tuple[int, hashlib._Hash]] = {}
        make_folders(folder, self._partial, self._arrived)
        try:
            self._ledger = _open_ledger(folder / "ledger.sqlite")
        except sqlite3.Error as error:
            raise ToolError(f"{folder / 'ledger.sqlite'}: {error}", hint="restore it, or name another folder") from (
                error
            )
        self._recover()

    def close(self) -> None:
        """Close the ledger."""
        with self._guard:
            self._ledger.close()

    def begin(self, entry: Entry, peer: str) -> int:
        """Announce content; how many bytes of it are safe already. Again: the same answer, nothing changes.

        Raises UsageError for an entry that is none, ConflictError if the id has other content here,
        FullError if there is no room.
        """
        check_entry(entry)
        with self._guard:
            row = self._find(entry.origin, entry.id)
            if row is not None:
                if (row[1], row[2]) != (entry.size, entry.sha256):
                    raise ConflictError(f"{entry.origin}/{entry.id}: is here with other content, from {row[5]}")
                if entry.size == 0 and row[4] == "partial":
                    self._finish_empty(entry)
                return int(row[3])
            used = self._used()
            if used + entry.size > self.budget:
                raise FullError(f"{self.folder}: full: {used >> 20} of {self.budget >> 20} MiB")
            self._write(
                "insert into uploads (origin, id, entry, size, sha256, peer, changed) values (?, ?, ?, ?, ?, ?, ?)",
                (entry.origin, entry.id, dump_entry(entry), entry.size, entry.sha256, peer, self._clock()),
            )
            if entry.size == 0:
                self._finish_empty(entry)
        return 0

    def progress(self, origin: str, id: str) -> tuple[int, int] | None:
        """How many bytes of an id are safe, and how many there will be; None if it was never announced."""
        with self._guard:
            row = self._find(origin, id)
        return None if row is None else (int(row[3]), int(row[1]))

    def append(self, origin: str, id: str, offset: int, piece: bytes) -> int:
        """Add a piece that begins at `offset`; on return it is safe. How many bytes are safe now.

        When the last byte is here the whole is held against its digest; if it differs, it starts from 0 again.
        Raises ConflictError if `offset` is not where the last piece ended, the id is unknown, or the content differs.
        """
        with self._guard:
            row = self._find(origin, id)
            if row is None:
                raise ConflictError(f"{origin}/{id}: was not announced")
            size, safe = int(row[1]), int(row[3])
            if offset != safe or offset + len(piece) > size:
                raise ConflictError(f"{origin}/{id}: {safe} of {size} bytes are here, got {len(piece)} at {offset}")
            if not piece:
                return safe
            path = self._partial / _key(origin, id)
            digest = self._digest_until(path, offset)
            self._disk.write_at(path, offset, piece)
            self._disk.sync_file(path)
            digest.update(piece)
            self._digests[path.name] = (offset + len(piece), digest)
            if offset == 0:
                self._disk.sync_folder(self._partial)
            safe += len(piece)
            if safe < size:
                self._update(origin, id, safe=safe)
            else:
                self._finish(origin, id)
        return safe

    def arrivals(self) -> Iterator[Arrival]:
        """What is whole and was not taken yet, in the order of arrival."""
        with self._guard:
            rows = self._ledger.execute(
                "select entry, number, peer from uploads where state = 'arrived' order by number"
            ).fetchall()
        for text, number, peer in rows:
            entry = load_entry(text)
            yield Arrival(entry, self._arrived / _key(entry.origin, entry.id), number, peer)

    def list_arrivals(self, after: int, most: int) -> list[Arrival]:
        """What is whole, was not taken yet and came after this number: the first `most` of it."""
        with self._guard:
            rows = self._ledger.execute(
                "select entry, number, peer from uploads where state = 'arrived' and number > ?"
                " order by number limit ?",
                (after, most),
            ).fetchall()
        found = [(load_entry(text), number, peer) for text, number, peer in rows]
        return [Arrival(one, self._arrived / _key(one.origin, one.id), number, peer) for one, number, peer in found]

    def find_arrival(self, origin: str, id: str) -> Arrival | None:
        """What is whole under this id and was not taken yet, or None."""
        with self._guard:
            row = self._ledger.execute(
                "select entry, number, peer from uploads where origin = ? and id = ? and state = 'arrived'",
                (origin, id),
            ).fetchone()
        return None if row is None else Arrival(load_entry(row[0]), self._arrived / _key(origin, id), row[1], row[2])

    def taken(self, arrival: Arrival) -> None:
        """Its content is kept elsewhere: give the room back. The id stays known, so that it never counts again."""
        with self._guard:
            self._update(arrival.entry.origin, arrival.entry.id, state="taken")
            self._disk.remove(arrival.path)

    def counts(self) -> dict[str, int]:
        """How many ids are `partial`, `arrived` and `taken`; the last two together were received, each once."""
        with self._guard:
            rows = self._ledger.execute("select state, count(*) from uploads group by state").fetchall()
        return {"partial": 0, "arrived": 0, "taken": 0} | {str(state): int(count) for state, count in rows}

    def tidy(self, older: float) -> int:
        """Forget partial content that nobody went on with for `older` seconds, and ids that are old enough.

        How many partial ids were forgotten; their senders begin again if they come back.
        """
        with self._guard:
            rows = self._ledger.execute(
                "select origin, id from uploads where state = 'partial' and changed < ?", (self._clock() - older,)
            ).fetchall()
            for origin, name in rows:
                self._write("delete from uploads where origin = ? and id = ?", (origin, name))
                self._digests.pop(_key(origin, name), None)
                self._disk.remove(self._partial / _key(origin, name))
            self._write(
                "delete from uploads where state = 'taken' and changed < ?", (self._clock() - self.remember * DAY,)
            )
        return len(rows)

    def _finish(self, origin: str, id: str) -> None:
        """All bytes are here: verify, move, and only then count."""
        row = self._find(origin, id)
        assert row is not None  # noqa: S101  (both callers hold the lock and have just seen it)
        partial, arrived = self._partial / _key(origin, id), self._arrived / _key(origin, id)
        if self._digest_until(partial, int(row[1])).hexdigest() != row[2]:
            self._update(origin, id, safe=0)
            self._disk.remove(partial)
            raise ConflictError(f"{origin}/{id}: what came is not what was announced; it starts again")
        self._disk.rename(partial, arrived)
        self._disk.sync_folder(self._arrived)
        self._count(origin, id, int(row[1]))

    def _finish_empty(self, entry: Entry) -> None:
        """No piece will come that could end it."""
        path = self._partial / _key(entry.origin, entry.id)
        self._disk.remove(path)
        self._disk.write(path, [])
        self._finish(entry.origin, entry.id)

    def _digest_until(self, path: Path, offset: int) -> hashlib._Hash:
        """The digest of a partial file's first `offset` bytes; it is used up."""
        done, digest = self._digests.pop(path.name, (-1, hashlib.sha256()))
        if done == offset:
            return digest
        digest, left = hashlib.sha256(), offset
        if offset:
            with path.open("rb") as stream:
                while left and (piece := stream.read(min(left, PIECE))):
                    digest.update(piece)
                    left -= len(piece)
        return digest

    def _count(self, origin: str, id: str, size: int) -> None:
        highest = self._ledger.execute("select coalesce(max(number), 0) from uploads").fetchone()[0]
        self._update(origin, id, safe=size, state="arrived", number=highest + 1)

    def _recover(self) -> None:
        """Bring files and ledger together after a cut: what was moved is counted, what was not safe is cut off."""
        expected = set()
        for origin, name in self._ledger.execute("select origin, id from uploads where state = 'partial'").fetchall():
            row = self._find(origin, name)
            assert row is not None  # noqa: S101  (nobody else has the ledger yet)
            key = _key(origin, name)
            partial, arrived, safe = self._partial / key, self._arrived / key, int(row[3])
            if arrived.exists():
                self._count(origin, name, int(row[1]))
                continue
            here = partial.stat().st_size if partial.exists() else 0
            if here < safe:
                # The file system kept less than it had promised: what is there starts again.
                self._update(origin, name, safe=0)
                safe = 0
            if here > safe:
                self._disk.truncate(partial, safe)
            expected.add(key)
        for path in self._partial.iterdir():
            if path.name not in expected:
                self._disk.remove(path)
        waiting = {arrival.path for arrival in self.arrivals()}
        for path in self._arrived.iterdir():
            if path not in waiting:
                self._disk.remove(path)

    def _find(self, origin: str, id: str) -> tuple[str, int, str, int, str, str] | None:
        """entry, size, sha256, safe, state, peer."""
        row: tuple[str, int, str, int, str, str] | None = self._ledger.execute(
            "select entry, size, sha256, safe, state, peer from uploads where origin = ? and id = ?", (origin, id)
        ).fetchone()
        return row

    def _used(self) -> int:
        answer = self._ledger.execute("select coalesce(sum(size), 0) from uploads where state != 'taken'")
        return int(answer.fetchone()[0])

    def _update(self, origin: str, id: str, **values: str | int) -> None:
        columns = ", ".join(f"{name} = ?" for name in values)
        self._write(
            f"update uploads set {columns}, changed = ? where origin = ? and id = ?",  # noqa: S608  (names are ours)
            (*values.values(), self._clock(), origin, id),
        )

    def _write(self, statement: str, values: tuple[str | int | float, ...]) -> None:
        try:
            self._ledger.execute(statement, values)
        except sqlite3.Error as error:
            raise ToolError(f"{self.folder / 'ledger.sqlite'}: {error}", hint="is the disk full?") from error


def _open_ledger(path: Path) -> sqlite3.Connection:
    # Autocommit: one statement, one transaction, on disk when it returns.
    ledger = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=1.0)
    ledger.execute("pragma locking_mode = exclusive")
    ledger.execute("pragma journal_mode = wal")
    ledger.execute("pragma synchronous = full")
    ledger.executescript(SCHEMA)
    return ledger


def _key(origin: str, id: str) -> str:
    """The name of a file: ids of other origins, and ids that differ in case only, never meet."""
    return hashlib.sha256(f"{origin}/{id}".encode()).hexdigest()[:40]
