"""Reports of scaling on their way to the central cloud: whoever dies when, each change is told, and told once."""

from __future__ import annotations

import asyncio
import errno
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mortal import run_mortal

from cumulet.core.errors import ToolError
from cumulet.monitor import Reports, ScaleReport
from cumulet.monitor.scaling import MOST_REPORTS
from cumulet.spool import Disk, Inbox, Spool
from cumulet.spool.__main__ import make_gather
from cumulet.spool.node import NodeSettings, gather_reports, run_node

MIB = 1 << 20
MEMORY = Path("/dev/shm")
SEEN = (1, 3, 3, 2)
"""How many containers the cluster wants of the task, look by look."""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder in memory: nothing waits for a disk."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def tell(reports: Reports, number: int) -> None:
    """One look of the recorder at its cluster."""
    known, after = reports.load_known(), SEEN[number]
    before = known.get("default/detect", after)
    made = [ScaleReport("pier-7", "default", "detect", before, after, "CPU", 1000.0 + number)]
    reports.add(made if before != after else [], {"default/detect": after})


def send(reports: Reports, spool: Spool, centre: Inbox) -> None:
    """All that waits goes up."""
    assert gather_reports(spool, reports.hand_on) == ""
    for entry in spool.entries():
        offset = centre.begin(entry, "pier-7")
        if offset < entry.size:
            centre.append(entry.origin, entry.id, offset, spool.read(entry, offset, MIB))
        spool.done(entry)


def go(folder: Path, disk: Disk) -> None:
    """Recorder, spool, transfer, look by look. The cluster goes on whoever is dead. Safe to call again."""
    reports = Reports(folder / "reports", disk)
    spool = Spool(folder / "spool", MIB, origin="pier-7", keep_free=0, disk=disk)
    centre = Inbox(folder / "centre", MIB, disk=disk)
    reports.settle()
    looked = folder / "looked"
    for number in range(len(looked.read_text()) if looked.exists() else 0, len(SEEN)):
        tell(reports, number)
        with looked.open("a") as stream:
            stream.write(".")
        send(reports, spool, centre)
    send(reports, spool, centre)
    spool.close()
    centre.close()


def read_centre(folder: Path) -> list[dict[str, Any]]:
    """What has arrived, in the order in which it was seen."""
    centre = Inbox(folder / "centre", MIB)
    found = [json.loads(arrival.path.read_bytes()) for arrival in centre.arrivals()]
    assert centre.counts() == {"partial": 0, "arrived": len(found), "taken": 0}
    centre.close()
    return sorted(found, key=lambda report: float(report["at"]))


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # fork beside pytest's own threads
def test_a_process_killed_at_any_operation_tells_each_change_once(folder: Path) -> None:
    ended, cut = False, 0
    while not ended:
        place = folder / str(cut)
        place.mkdir()
        ended = run_mortal(go, place, cut)
        run_mortal(go, place, cut * 7 % 50)  # and once more while it recovers
        go(place, Disk())
        found = read_centre(place)
        assert [(each["before"], each["after"]) for each in found] == [(1, 3), (3, 2)], cut
        assert Reports(place / "reports").list_reports() == []
        assert list((place / "spool/entries").iterdir()) == []
        shutil.rmtree(place)
        cut += 1
    assert cut > 40


def test_a_report_that_was_taken_before_it_was_forgotten_counts_once(folder: Path) -> None:
    go(folder, Disk())
    before = read_centre(folder)
    # The file is there again, as if its removal had not reached the disk; the spool has forgotten it long ago.
    reports = Reports(folder / "reports")
    again = ScaleReport("pier-7", "default", "detect", 1, 3, "CPU", 1001.0)
    reports.add([again], reports.load_known())
    go(folder, Disk())
    assert read_centre(folder) == before
    assert len(before) == 2


def test_a_full_spool_keeps_the_rest_waiting_and_says_so(folder: Path) -> None:
    reports = Reports(folder / "reports")
    reports.add([ScaleReport("pier-7", "default", "detect", 1, 2, "CPU", 1000.0 + n) for n in range(4)], {})
    spool = Spool(folder / "spool", 24_600, origin="pier-7", keep_free=0)
    assert "full: 0 of 0 MiB, 2 entries" in gather_reports(spool, reports.hand_on)
    assert len(reports.list_reports()) == 2
    for entry in spool.entries():
        assert (entry.topic, entry.meta, entry.id[:7]) == ("result", {"kind": "report"}, "scaled-")
        spool.done(entry)
    assert gather_reports(spool, reports.hand_on) == ""
    assert (len(spool.entries()), reports.list_reports()) == (2, [])
    spool.close()


def test_a_disk_that_does_not_take_a_report_has_not_forgotten_the_change(folder: Path) -> None:
    class FullDisk(Disk):
        full = True

        def write(self, path: Path, pieces: Any) -> None:
            if self.full and path.name.startswith(".new-0"):
                raise OSError(errno.ENOSPC, "No space left on device")
            super().write(path, pieces)

    disk = FullDisk()
    reports = Reports(folder / "reports", disk)
    tell(reports, 0)
    with pytest.raises(ToolError):
        tell(reports, 1)
    assert reports.list_reports() == []
    disk.full = False
    tell(reports, 3)
    found = [json.loads(path.read_text()) for path in reports.list_reports()]
    assert [(each["before"], each["after"]) for each in found] == [(1, 3), (3, 2)]


def test_if_nobody_takes_any_the_oldest_go(folder: Path) -> None:
    reports = Reports(folder)
    many = [ScaleReport("pier-7", "default", "detect", 1, 2, "CPU", 1000.0 + n) for n in range(MOST_REPORTS + 2)]
    reports.add(many, {})
    kept = [json.loads(path.read_text())["at"] for path in reports.list_reports()]
    assert (len(kept), kept[0]) == (MOST_REPORTS, 1002.0)


def test_the_process_of_a_tier_takes_the_reports_of_its_recorder(folder: Path) -> None:
    reports = Reports(folder / "reports")
    reports.add([ScaleReport("pier-7", "default", "detect", 1, 2, "CPU", 1000.0)], {})
    assert make_gather(None)(print) == 0
    settings = NodeSettings("pier-7", folder / "tier", port=0, keep_free=0, up=("http://127.0.0.1:1",))

    async def run() -> None:
        task = asyncio.ensure_future(run_node(settings, gather=make_gather(folder / "reports")))
        while reports.list_reports() and not task.done():
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(asyncio.wait_for(run(), 20))
    spool = Spool(folder / "tier/spool", MIB, origin="pier-7", keep_free=0)
    (entry,) = spool.entries()
    assert (entry.id, entry.origin) == ("scaled-000000001000000-000-detect", "pier-7")
    assert json.loads(spool.read(entry, 0, MIB))["after"] == 2
    spool.close()
