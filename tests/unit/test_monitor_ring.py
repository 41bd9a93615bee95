"""The ring file: what was written is read, whatever the power does, and never more than two weeks of it."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet.monitor.ring import HEADER_SIZE, SECONDS, SLOT, SLOTS, Bin, Ring, open_ring, read_ring

NOW = 1_800_000_000.0


def fill(path: Path, count: int, until: float = NOW) -> list[Bin]:
    """So many bins, the last one at `until`; the disk is not waited for."""
    with open_ring(path, sync=lambda handle: None) as ring:
        for step in range(count - 1, -1, -1):
            assert ring.add(until - step * SECONDS, (step, 0, 0, 0))
    return read_ring(path, until)


def test_bins_are_kept_for_two_weeks_and_the_file_does_not_grow(tmp_path: Path) -> None:
    path = tmp_path / "load.ring"
    found = fill(path, SLOTS + 100)
    assert len(found) == SLOTS == 4032
    assert [each.values[0] for each in found[:2]] == [SLOTS - 1, SLOTS - 2]
    assert path.stat().st_size == HEADER_SIZE + SLOTS * SLOT.size < 130_000


def test_every_sample_is_on_the_disk_before_it_counts_as_taken(tmp_path: Path) -> None:
    synced: list[int] = []
    with open_ring(tmp_path / "load.ring", sync=synced.append) as ring:
        for step in range(3):
            ring.add(NOW + step, (1, 1, 1, 1))
            assert len(synced) == step + 1
        assert not ring.add(0, (1, 1, 1, 1))
    assert len(synced) == 3


def test_samples_of_a_bin_become_their_mean_or_the_highest(tmp_path: Path) -> None:
    path = tmp_path / "load.ring"
    start = NOW // SECONDS * SECONDS
    with open_ring(path, frozenset({3})) as ring:
        for step, value in enumerate((10.0, 20.0, 60.0)):
            ring.add(start + 60 * step, (value, 2 * value, 5, value))
    # After a restart in the same five minutes it goes on where it was.
    with open_ring(path, frozenset({3})) as ring:
        ring.add(start + 240, (30.0, 60.0, 5, 30.0))
    assert read_ring(path, start + 299) == [Bin(int(start), 4, (30.0, 60.0, 5.0, 60.0))]


def test_a_write_that_is_torn_costs_one_bin(tmp_path: Path) -> None:
    path = tmp_path / "load.ring"
    before = fill(path, 500)
    lost = before[200]
    place = HEADER_SIZE + lost.start // SECONDS % SLOTS * SLOT.size
    assert place // 512 == (place + SLOT.size - 1) // 512
    for cut in (1, 8, 13, 27, 31):
        damaged = bytearray(path.read_bytes())
        new = struct.pack("<qI4f", lost.start // SECONDS, 7, 1.5, 2.5, 3.5, 4.5)
        damaged[place : place + cut] = (new + b"\x55\x66\x77\x88")[:cut]
        torn = tmp_path / "torn.ring"
        torn.write_bytes(damaged)
        assert [each for each in read_ring(torn, NOW) if each != lost] == [each for each in before if each != lost]
        with open_ring(torn) as ring:
            ring.add(NOW, (1, 1, 1, 1))
        assert len(read_ring(torn, NOW)) >= len(before) - 1


@pytest.mark.parametrize("damage", ["header", "cut", "noise", "empty"])
def test_a_damaged_file_is_gone_on_with_and_gives_nothing_that_was_not_written(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "load.ring"
    written = fill(path, 600)
    data = bytearray(path.read_bytes())
    if damage == "header":
        data[:HEADER_SIZE] = os.urandom(HEADER_SIZE)
    elif damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "noise":
        chance = random.Random(1)
        for _ in range(3000):
            data[chance.randrange(len(data))] = chance.randrange(256)
    else:
        data.clear()
    path.write_bytes(data)
    with open_ring(path) as ring:
        assert ring.add(NOW + SECONDS, (42, 0, 0, 0))
    found = read_ring(path, NOW + SECONDS)
    assert found[-1].values[0] == 42
    assert set(found[:-1]) <= set(written)
    assert len(found) == (len(written) + 1 if damage == "header" else len(found))


def test_a_clock_that_is_wrong_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "load.ring"
    before = fill(path, 300)
    with open_ring(path) as ring:
        assert not ring.add(0.0, (9999, 0, 0, 0))
        assert ring.add(NOW + 400 * 86400, (9999, 0, 0, 0))
    assert [each for each in read_ring(path, NOW) if each.values[0] == 9999] == []
    assert len(read_ring(path, NOW)) >= len(before) - 1
    # Later, when that time comes, it is passed over because the slot is written anew.
    assert read_ring(path, NOW + 30 * 86400) == []


def test_one_recorder_is_enough_and_readers_need_none(tmp_path: Path) -> None:
    path = tmp_path / "load.ring"
    assert read_ring(path, NOW) == []
    with open_ring(path), pytest.raises(ToolError, match=r"load\.ring: another process writes to it"):
        Ring(path)
    other = bytearray(path.read_bytes())
    other[12:16] = struct.pack("<I", 2)
    import zlib

    other[24:28] = struct.pack("<I", zlib.crc32(bytes(other[:24])))
    path.write_bytes(other)
    with pytest.raises(ToolError, match=r"load\.ring: is a ring of another version"):
        Ring(path)
