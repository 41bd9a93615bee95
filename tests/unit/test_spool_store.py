"""The spool on disk: what is promised, what it refuses, how full it may be."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet.spool import Disk, Spool, SpoolFullError

MIB = 1 << 20


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool", MIB, origin="pier-7", keep_free=0)
    yield made
    made.close()


def reopen(spool: Spool, budget: int = MIB) -> Spool:
    spool.close()
    return Spool(spool.folder, budget, origin=spool.origin, keep_free=0)


def test_what_is_put_is_there_after_a_restart_in_the_same_order(spool: Spool) -> None:
    first = spool.put(b"one", id="job-1.0", meta={"task": "count"})
    second = spool.put(iter([b"t", b"wo"]), id="job-1.1", topic="status", origin="other")
    again = reopen(spool)
    assert again.entries() == [first, second]
    assert again.read(again.entries()[0], 1, 10) == b"ne"
    assert (first.size, first.origin, first.topic, first.meta) == (3, "pier-7", "result", {"task": "count"})
    assert again.put(b"three").created >= first.created
    again.close()


def test_an_id_that_is_put_twice_is_kept_once(spool: Spool) -> None:
    one = spool.put(b"same", id="a")
    assert spool.put(b"same", id="a") is one
    assert spool.put(b"same", id="a", origin="elsewhere") is not one
    assert [entry.id for entry in spool.entries()] == ["a", "a"]


def test_an_id_with_other_content_is_refused(spool: Spool) -> None:
    spool.put(b"this", id="a")
    with pytest.raises(UsageError, match=r"pier-7/a is here with other content"):
        spool.put(b"that", id="a")
    assert list((spool.folder / "new").iterdir()) == []


def test_without_an_id_every_put_counts(spool: Spool) -> None:
    assert spool.put(b"x").id != spool.put(b"x").id


def test_done_forgets_and_a_second_time_does_nothing(spool: Spool) -> None:
    entry = spool.put(b"x" * 5000)
    spool.done(entry)
    spool.done(entry)
    assert spool.usage().used == 0
    again = reopen(spool)
    assert again.entries() == []
    with pytest.raises(ToolError, match="is not here any more"):
        again.read(entry, 0, 1)
    again.close()


def test_the_budget_counts_whole_blocks_and_holds_after_a_restart(spool: Spool) -> None:
    spool.put(b"x")
    assert spool.usage().used == 3 * 4096
    again = reopen(spool, 5 * 4096)
    with pytest.raises(SpoolFullError, match=r"full: 0 of 0 MiB, 1 entries"):
        again.put(b"y" * 8193)
    assert again.usage().used == 3 * 4096
    assert len(again.entries()) == 1
    again.close()


def test_content_of_unknown_length_cannot_pass_the_budget_either(spool: Spool) -> None:
    with pytest.raises(SpoolFullError):
        spool.put(b"z" * 65536 for _ in range(100))
    assert spool.usage().used == 0
    assert list((spool.folder / "new").iterdir()) == []


def test_old_status_makes_room_for_a_result(spool: Spool) -> None:
    for number in range(10):
        spool.put(b"s" * 90_000, id=f"s{number}", topic="status")
    spool.put(b"r" * 500_000, id="r")
    left = [entry.id for entry in spool.entries()]
    assert left[-1] == "r"
    assert left[:-1] == [f"s{number}" for number in range(10)][-len(left) + 1 :]
    assert 3 <= len(left) <= 7
    with pytest.raises(SpoolFullError):
        spool.put(b"r" * 900_000)


def test_a_disk_with_too_little_left_is_full(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", MIB, origin="e", keep_free=1 << 60)
    with pytest.raises(SpoolFullError, match="the disk is full"):
        spool.put(b"x")
    spool.close()


def test_a_disk_that_fills_up_while_writing_leaves_nothing_behind(tmp_path: Path) -> None:
    class FullDisk(Disk):
        def write(self, path: Path, pieces: Iterable[bytes]) -> None:
            super().write(path, [next(iter(pieces))])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))

    spool = Spool(tmp_path / "spool", MIB, origin="e", keep_free=0, disk=FullDisk())
    with pytest.raises(SpoolFullError, match="the disk is full"):
        spool.put(b"x" * 100_000)
    assert list((tmp_path / "spool/new").iterdir()) == []
    assert spool.usage().used == 0
    spool.close()


def test_damage_is_set_aside_and_counted(spool: Spool) -> None:
    spool.put(b"good", id="good")
    spool.put(b"cut short", id="cut")
    (place,) = (spool.folder / "entries").glob("*.cut")
    (place / "data").write_bytes(b"cut")
    again = reopen(spool)
    assert [entry.id for entry in again.entries()] == ["good"]
    assert again.usage().broken == 1
    assert (spool.folder / "broken" / place.name / "data").read_bytes() == b"cut"
    again.close()


def test_one_process_owns_a_spool(spool: Spool) -> None:
    with pytest.raises(ToolError, match="another process has this spool"):
        Spool(spool.folder, MIB, origin="e")


@pytest.mark.parametrize("id", ["../x", "a/b", "", ".hidden", "x" * 129, "ä"])
def test_names_that_are_no_names_are_refused(spool: Spool, id: str) -> None:
    if not id:
        assert spool.put(b"x", id=id).id  # no id: it gets one
        return
    with pytest.raises(UsageError, match="not a name"):
        spool.put(b"x", id=id)
    assert spool.entries() == []


def test_remarks_are_short(spool: Spool) -> None:
    with pytest.raises(UsageError, match="longer than 4096 bytes"):
        spool.put(b"x", meta={"note": "n" * 5000})
