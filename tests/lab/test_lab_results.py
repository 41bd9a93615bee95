"""Three tiers as processes: results arrive at the top once, though the station is away and the edge loses power."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest

from cumulet.core.deadline import Deadline
from cumulet.spool import Sender, Spool, Target, make_client

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]
MIB = 1 << 20


class Tier:
    """One tier's process, which can be killed as a power cut does, and started again."""

    def __init__(self, folder: Path, name: str, up: str = "") -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        self.folder, self.name, self.up = folder / name, name, up
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        words = [sys.executable, "-m", "cumulet.spool", "run", "--folder", self.folder, "--name", self.name]
        words += ["--port", str(self.port), *(["--up", self.up] if self.up else [])]
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([str(word) for word in words], stderr=log)
        deadline = Deadline.after(20)
        while True:
            try:
                assert httpx.options(f"{self.url}/results").status_code == 204
                return
            except httpx.HTTPError:
                deadline.check(f"{self.name}: {(self.folder / 'log').read_text()}")
                time.sleep(0.05)

    def kill(self) -> None:
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


@pytest.fixture
def tiers(tmp_path: Path) -> Iterator[tuple[Tier, Tier, Tier]]:
    centre = Tier(tmp_path, "centre")
    station = Tier(tmp_path, "station", centre.url)
    edge = Tier(tmp_path, "edge", station.url)
    with ExitStack() as stack:
        for tier in (centre, station, edge):
            stack.callback(tier.kill)
            tier.start()
        yield edge, station, centre


def bring(edge: Tier, content: bytes, id: str, folder: Path) -> None:
    """What a task does with its result: hands it to the edge, and goes on asking until it is there."""
    spool = Spool(folder / "task", 256 * MIB, origin="edge", keep_free=0)
    spool.put(content, id=id)
    target = Target((edge.url,), seconds=5)
    with make_client(target) as client:
        deadline = Deadline.after(60)
        while not Sender(spool, target, client).send_all(Deadline.after(10)).sent:
            deadline.check(f"{id}: to the edge")
            time.sleep(0.1)
    spool.close()


def count(centre: Tier) -> dict[str, tuple[int, str]]:
    """What the centre has counted: id -> how many times, digest of the file."""
    with sqlite3.connect(f"file:{centre.folder}/inbox/ledger.sqlite?mode=ro&immutable=0", uri=True) as ledger:
        rows = ledger.execute("select id, count(*), sha256 from uploads where state = 'arrived' group by id").fetchall()
    ledger.close()
    return {str(name): (int(times), str(digest)) for name, times, digest in rows}


def wait(what: str, want: Callable[[], bool], seconds: float = 60) -> None:
    deadline = Deadline.after(seconds)
    while not want():
        deadline.check(what)
        time.sleep(0.1)


def test_results_arrive_once_through_power_cuts_and_a_station_that_is_away(
    tiers: tuple[Tier, Tier, Tier], tmp_path: Path
) -> None:
    edge, station, centre = tiers
    chance = random.Random(6)
    results = {f"job-{n}.{n % 3}": chance.randbytes(chance.choice([0, 10, 300_000, 5 * MIB])) for n in range(24)}
    station.kill()  # the station is away from the beginning
    for number, (name, content) in enumerate(results.items()):
        bring(edge, content, name, tmp_path)
        if number % 8 == 3:
            edge.kill()
            edge.start()
        if number == 12:
            station.start()
        if number == 16:
            station.kill()
            edge.kill()
            edge.start()
            station.start()
    for _ in range(6):
        time.sleep(chance.uniform(0.1, 0.8))
        victim = chance.choice([edge, station, centre])
        victim.kill()
        victim.start()
    folder = centre.folder / "inbox/arrived"
    wait("everything is at the centre", lambda: len(list(folder.iterdir())) == len(results))
    wait("nothing is left below", lambda: not any(any((t.folder / "spool/entries").iterdir()) for t in (edge, station)))
    bring(edge, results["job-3.0"], "job-3.0", tmp_path)  # a task that was cut off does its last step again
    wait("it went up", lambda: not any((edge.folder / "spool/entries").iterdir()))
    time.sleep(2)
    centre.kill()
    expected = {name: (1, hashlib.sha256(content).hexdigest()) for name, content in results.items()}
    assert count(centre) == expected
    here = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir())
    assert here == sorted(digest for _, digest in expected.values())
