"""How busy a GPU is: seen by the time of its clients, written onto the node where it has changed."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet.core.notes import NodeNote, read_list, read_number
from cumulet.gpu.busy import Meter, Teller

SECOND = 10**9


def work(proc: Path, process: int, client: int, seconds: float, engine: str = "gpu") -> None:
    """What a driver says of a client in a file of a process."""
    path = proc / str(process) / "fdinfo/5"
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"drm-driver:\tmsm\ndrm-client-id:\t{client}\ndrm-engine-{engine}:\t{int(seconds * SECOND)} ns\n"
    path.write_text(text)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        self.now += 10
        return self.now


def test_busy_is_what_the_clients_have_worked_since_the_last_look(tmp_path: Path) -> None:
    meter = Meter(tmp_path, Clock())
    work(tmp_path, 1, 7, 500)
    assert meter.look() is None
    work(tmp_path, 1, 7, 502)
    work(tmp_path, 2, 8, 1)
    # Two seconds of the one, one second of a client that is new.
    assert meter.look() == pytest.approx(30)
    work(tmp_path, 1, 9, 0.5)
    (tmp_path / "2/fdinfo/5").unlink()
    assert meter.look() == pytest.approx(5)
    (tmp_path / "1/fdinfo/5").unlink()
    # All have ended: it is idle, which is known.
    assert meter.look() == 0
    assert meter.look() is None


def test_the_busiest_engine_counts_and_a_hundred_is_all_there_is(tmp_path: Path) -> None:
    meter = Meter(tmp_path, Clock())
    work(tmp_path, 1, 7, 0, "render")
    work(tmp_path, 2, 8, 0, "video")
    meter.look()
    work(tmp_path, 1, 7, 6, "render")
    work(tmp_path, 2, 8, 2, "video")
    assert meter.look() == pytest.approx(60)
    work(tmp_path, 1, 7, 99, "render")
    assert meter.look() == 100


def test_a_driver_that_does_not_say_is_not_told_of(tmp_path: Path) -> None:
    told: list[object] = []
    teller = Teller(print, Meter(tmp_path, Clock()), told.append)
    for _ in range(3):
        teller.look()
    assert told == []


def test_only_changes_are_written_onto_the_node_and_what_failed_is_tried_again(tmp_path: Path) -> None:
    told: list[object] = []
    said: list[str] = []
    down = [True]

    def patch(change: dict[str, object]) -> None:
        if down:
            down.clear()
            raise ToolError("no API server answers")
        told.append(change)

    teller = Teller(said.append, Meter(tmp_path, Clock()), patch)
    spent = 0.0
    for seconds in (0, 4, 4, 4.2, 6, 0.1, 0):
        spent += seconds
        work(tmp_path, 1, 7, spent)
        teller.look()
    assert said == ["no API server answers"]
    assert told == [
        {"metadata": {"annotations": {"edge.cumulet.dev/gpu-busy": text}}} for text in ("40.0", "60.0", "1.0", "0.0")
    ]


def test_nothing_is_looked_at_outside_of_a_cluster(tmp_path: Path) -> None:
    over = threading.Event()
    thread = threading.Thread(target=Teller(print, Meter(tmp_path / "not there")).run, args=(over, 0.01))
    thread.start()
    over.set()
    thread.join(10)
    assert not thread.is_alive()


def test_notes_are_read_whatever_stands_in_them() -> None:
    notes = {NodeNote.MBIT: "94.2", "edge.cumulet.dev/gpu-busy": "much", NodeNote.RUNTIMES: "ncnn, litert,"}
    assert read_number(notes, NodeNote.MBIT) == 94.2
    assert [read_number(notes, note) for note in (NodeNote.GPU_BUSY, NodeNote.GPU_SPEED)] == [0, 0]
    assert [read_number({NodeNote.MBIT: text}, NodeNote.MBIT) for text in ("-3", "nan", "inf")] == [0, 0, 0]
    assert read_list(notes, NodeNote.RUNTIMES) == ("ncnn", "litert")
    assert read_list({}, NodeNote.RUNTIMES) == ()
