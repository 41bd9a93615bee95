"""Power cuts: after every operation on the disk, with everything that was not yet safe lost, kept, or torn.

The disk here keeps a record beside doing the work. From a prefix of the record the files are made as they may
be after a cut: names change in order, as on every journalling file system, but only what a folder's fsync
covers is sure; content is sure when its file was synced. The ledger is SQLite, whose commits are on disk
when they return: its image after each commit is in the record.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from mortal import run_mortal

from cumulet.spool import ConflictError, Disk, Inbox, Spool, relay

MIB = 1 << 20
MEMORY = Path("/dev/shm")
KEPT = ("nothing", "everything", "torn")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory, where waiting for the disk costs nothing: what a cut leaves is worked out, not waited for."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


@dataclass
class RecordingDisk(Disk):
    """Does the work, and keeps what it did. `syncs` off: a disk that lies, to see that the checks notice."""

    root: Path
    syncs: bool = True
    record: list[tuple[Any, ...]] = field(default_factory=list)

    def note(self, *words: Any) -> None:
        self.record.append(words)

    def make_folder(self, path: Path) -> None:
        super().make_folder(path)
        self.note("folder", path)

    def write(self, path: Path, pieces: Iterable[bytes]) -> None:
        self.note("file", path)

        def noted() -> Iterator[bytes]:
            offset = 0
            for piece in pieces:
                self.note("data", path, offset, piece)
                offset += len(piece)
                yield piece

        super().write(path, noted())
        self.sync_file(path)

    def write_at(self, path: Path, offset: int, piece: bytes) -> None:
        if not path.exists():
            self.note("file", path)
        super().write_at(path, offset, piece)
        self.note("data", path, offset, piece)

    def truncate(self, path: Path, size: int) -> None:
        super().truncate(path, size)
        self.note("truncate", path, size)
        self.sync_file(path)

    def sync_file(self, path: Path) -> None:
        if self.syncs:
            self.note("sync", path)

    def sync_folder(self, path: Path) -> None:
        if self.syncs:
            self.note("sync folder", path)

    def rename(self, old: Path, new: Path) -> None:
        super().rename(old, new)
        self.note("rename", old, new)

    def remove(self, path: Path) -> None:
        super().remove(path)
        self.note("remove", path)


NAMES = ("folder", "file", "rename", "remove")


def sure_names(record: list[tuple[Any, ...]]) -> int:
    """Up to where changes of names are sure to have survived."""
    sure = 0
    for number, (what, *words) in enumerate(record):
        if what == "sync folder":
            for earlier in range(number, sure, -1):
                kind, *paths = record[earlier - 1]
                if kind in NAMES and any(path.parent == words[0] for path in paths):
                    sure = earlier
                    break
    return sure


def rebuild(record: list[tuple[Any, ...]], root: Path, kept: str, after: Path) -> None:
    """Make `after` what `root` may be after a cut at the end of the record."""
    names = sure_names(record) if kept == "nothing" else len(record)
    tree: dict[Path, bytearray | None] = {}
    safe: dict[Path, bytes] = {}
    for number, (what, *words) in enumerate(record):
        if what in NAMES and number >= names:
            continue
        if what == "folder":
            tree[words[0]] = None
        elif what == "file":
            tree[words[0]] = bytearray()
        elif what == "data" and words[0] in tree:
            content = tree[words[0]]
            assert content is not None
            content[words[1] : words[1] + len(words[2])] = words[2]
        elif what == "truncate" and words[0] in tree:
            del tree[words[0]][words[1] :]  # type: ignore[index]
        elif what == "sync" and words[0] in tree:
            safe[words[0]] = bytes(tree[words[0]] or b"")
        elif what == "rename":
            for store in (tree, safe):
                for path in [path for path in store if path.is_relative_to(words[0])]:
                    store[words[1] / path.relative_to(words[0])] = store.pop(path)  # type: ignore[attr-defined]
        elif what == "remove":
            for store in (tree, safe):
                for path in [path for path in store if path.is_relative_to(words[0])]:
                    del store[path]  # type: ignore[attr-defined]
        elif what == "ledger":
            tree[root / "ledger.sqlite"] = bytearray(words[0])
            safe[root / "ledger.sqlite"] = words[0]
    for path, content in sorted(tree.items()):
        place = after / path.relative_to(root)
        if content is None:
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        kept_content = bytes(content)
        if kept != "everything":
            kept_content = safe.get(path, b"")
        if kept == "torn":
            kept_content += bytes(max(0, len(content) - len(kept_content)))
        place.write_bytes(kept_content)


def play_spool(disk: RecordingDisk) -> None:
    """Everything a spool does, with marks in the record of what was promised and what was begun."""
    spool = Spool(disk.root, MIB, origin="edge", keep_free=0, disk=disk)
    for name, content in (("a", b"a" * 300), ("b", b"b" * 70_000), ("c", b"")):
        disk.note("begin", name, content)
        spool.put(content, id=name)
        disk.note("promised", name, content)
    disk.note("doing away", "a")
    spool.done(spool.entries()[0])
    disk.note("begin", "d", b"d")
    spool.put(b"d", id="d", topic="status")
    disk.note("promised", "d", b"d")
    disk.note("doing away", "c")
    spool.done(spool.entries()[1])
    spool.close()


def find_losses(disk: RecordingDisk, folder: Path) -> list[str]:
    """Cut the power after every operation, in every way; what was promised and is not there."""
    losses = []
    for end in range(len(disk.record) + 1):
        record = disk.record[:end]
        promised = {words[0]: words[1] for what, *words in record if what == "promised"}
        begun = {words[0]: words[1] for what, *words in record if what == "begin"}
        away = {words[0] for what, *words in record if what == "doing away"}
        for kept in KEPT:
            after = folder / f"{end}-{kept}"
            after.mkdir()
            rebuild(record, disk.root, kept, after)
            for start in ("first start", "second start"):
                spool = Spool(after, MIB, origin="edge", keep_free=0)
                here = {entry.id: spool.read(entry, 0, MIB) for entry in spool.entries()}
                cut = f"cut after {end} ({record[-1][0] if record else 'nothing'}), {kept} kept, {start}"
                losses += [f"{cut}: {one} is lost" for one in promised if one not in away and one not in here]
                losses += [f"{cut}: {one} is damaged" for one, data in here.items() if data != begun[one]]
                losses += [f"{cut}: {spool.usage().broken} broken"] if spool.usage().broken else []
                losses += [f"{cut}: rubbish" for place in ("new", "gone") if any((after / place).iterdir())]
                spool.close()
            shutil.rmtree(after)
    return losses


def test_a_spool_loses_nothing_that_it_promised(folder: Path) -> None:
    disk = RecordingDisk(folder / "spool")
    play_spool(disk)
    assert len(disk.record) > 40
    assert find_losses(disk, folder) == []


def test_the_check_notices_a_disk_that_does_not_sync(folder: Path) -> None:
    disk = RecordingDisk(folder / "spool", syncs=False)
    play_spool(disk)
    losses = find_losses(disk, folder)
    assert any("is lost" in loss for loss in losses)


class RecordingInbox(Inbox):
    """Puts the ledger's image into the record after each commit."""

    def _write(self, statement: str, values: tuple[str | int | float, ...]) -> None:
        super()._write(statement, values)
        assert isinstance(self._disk, RecordingDisk)
        self._disk.note("ledger", self._ledger.serialize())


def play_transfer(inbox: Inbox, spool: Spool, piece: int, acknowledged: Callable[..., None]) -> None:
    """What a sender does: ask where to go on, send pieces, forget when all is there."""
    for entry in spool.entries():
        offset = inbox.begin(entry, "edge")
        acknowledged(entry.id, offset)
        while offset < entry.size:
            offset = inbox.append(entry.origin, entry.id, offset, spool.read(entry, offset, piece))
            acknowledged(entry.id, offset)


CONTENTS = {"empty": b"", "short": b"s" * 10, "long": bytes(range(256)) * 40}


def test_an_inbox_keeps_what_it_acknowledged_and_counts_each_once(folder: Path) -> None:
    spool = Spool(folder / "spool", MIB, origin="edge", keep_free=0)
    for name, content in CONTENTS.items():
        spool.put(content, id=name)
    disk = RecordingDisk(folder / "inbox")
    inbox = RecordingInbox(folder / "inbox", MIB, disk=disk)
    play_transfer(inbox, spool, 4000, lambda name, offset: disk.note("acknowledged", name, offset))
    inbox.close()
    assert len(disk.record) > 25
    wrong = []
    for end in range(len(disk.record) + 1):
        for kept in KEPT:
            after = folder / f"{end}-{kept}"
            after.mkdir()
            rebuild(disk.record[:end], disk.root, kept, after)
            name = f"cut after {end}, {kept} kept"
            again = Inbox(after, MIB)
            for what, *words in disk.record[:end]:
                if what == "acknowledged":
                    known = again.progress("edge", words[0])
                    wrong += [f"{name}: {words[0]}: {known} < {words[1]}"] if not known or known[0] < words[1] else []
            play_transfer(again, spool, 3000, lambda name, offset: None)
            here = {arrival.entry.id: arrival.path.read_bytes() for arrival in again.arrivals()}
            wrong += [f"{name}: content differs"] if here != CONTENTS else []
            wrong += [f"{name}: {again.counts()}"] if again.counts() != {"partial": 0, "arrived": 3, "taken": 0} else []
            again.close()
            shutil.rmtree(after)
    spool.close()
    assert wrong == []


def go_up(folder: Path, disk: Disk) -> None:
    """Edge, station, centre: put, send, hand on, send again. Safe to call again after any end."""
    edge = Spool(folder / "edge", MIB, origin="edge", keep_free=0, disk=disk)
    below, above = Inbox(folder / "station-in", MIB, disk=disk), Inbox(folder / "centre", MIB, disk=disk)
    station = Spool(folder / "station-out", MIB, origin="station", keep_free=0, disk=disk)
    if not (folder / "made").exists():
        for name, content in CONTENTS.items():
            edge.put(content, id=name)
        (folder / "made").touch()
    for spool, inbox in ((edge, below), (station, above)):
        for entry in spool.entries():
            offset = inbox.begin(entry, spool.origin)
            while offset < entry.size:
                offset = inbox.append(entry.origin, entry.id, offset, spool.read(entry, offset, 6000))
            spool.done(entry)
        relay(below, station)
    for opened in (edge, station, below, above):
        opened.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside pytest's own threads
def test_a_process_killed_at_any_operation_delivers_each_result_once(folder: Path) -> None:
    ended, cut = False, 0
    while not ended:
        place = folder / str(cut)
        place.mkdir()
        ended = run_mortal(go_up, place, cut)
        run_mortal(go_up, place, cut * 7 % 60)  # and once more while it recovers
        go_up(place, Disk())
        centre = Inbox(place / "centre", MIB)
        assert {arrival.entry.id: arrival.path.read_bytes() for arrival in centre.arrivals()} == CONTENTS, cut
        assert centre.counts() == {"partial": 0, "arrived": 3, "taken": 0}
        centre.close()
        for name in ("edge", "station-out"):
            assert list((place / name / "entries").iterdir()) == [], cut
        shutil.rmtree(place)
        cut += 1
    assert cut > 60


def test_content_that_differs_from_its_digest_starts_again(folder: Path) -> None:
    spool = Spool(folder / "spool", MIB, origin="edge", keep_free=0)
    entry = spool.put(b"right", id="x")
    inbox = Inbox(folder / "inbox", MIB)
    inbox.begin(entry, "edge")
    with pytest.raises(ConflictError, match="it starts again"):
        inbox.append("edge", "x", 0, b"wrong")
    assert inbox.progress("edge", "x") == (0, 5)
    assert inbox.append("edge", "x", 0, b"right") == 5
    assert inbox.counts()["arrived"] == 1
    inbox.close()
    spool.close()
