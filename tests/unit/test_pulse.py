"""What clusters say of their tasks: written, read from anybody, summed by tiers, told by agents, kept by hubs."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cumulet.central.agent.told import load_own, load_pulse, set_pulse
from cumulet.central.hub.fleet import Fleet, Lease, keep_lease
from cumulet.central.hub.measures import write_measures
from cumulet.central.hub.pulses import Pulses, make_pulse_map
from cumulet.central.hub.records import make_cluster
from cumulet.central.protocol import PULSE
from cumulet.central.pulse import (
    MOST_BYTES,
    MOST_TASKS,
    LinkPulse,
    Pulse,
    TaskPulse,
    add_pulses,
    read_links,
    read_pulse,
    same_shape,
    write_pulse,
)
from cumulet.core.errors import UsageError

NOW = 1_800_000_000
PIER = Pulse(
    at=NOW,
    load=(31, 60, 44),
    nodes=(4, 5),
    window=(NOW + 7200, 1800),
    windows=1,
    spool=(3, 15),
    tasks=(
        TaskPulse("default/detect", 1, 4, 3, 3, 2600, 900, {"yolo@4f53cda18c2b": 1}),
        TaskPulse("default/count", 1, 1, 1, 1, 120, 64, {}, 0),
    ),
    links={"5g": LinkPulse(1, 0, 0, 61), "ethernet": LinkPulse(0, 0, 1, 0)},
)
QUAY = Pulse(
    at=NOW - 60,
    load=(11, 0, 24),
    nodes=(3, 3),
    window=(NOW + 3600, 1800),
    windows=1,
    tasks=(TaskPulse("default/detect", 1, 2, 2, 2, 900, 512, {"yolo@aaaaaaaaaaaa": 1}, 1),),
    links={"beidou": LinkPulse(1, 0, 0, 3)},
)
CHOICE: dict[str, Any] = {
    "written": NOW,
    "links": [
        {"kind": "ethernet", "up": False, "used": False, "signal": 0},
        {"kind": "5g", "up": True, "used": True, "signal": 61},
        {"kind": "4g", "up": True, "used": False, "signal": 44},
        {"kind": "carrier-pigeon", "up": True, "used": False, "signal": 9},
    ],
}


def test_what_is_written_is_read_and_a_minute_of_it_is_far_below_the_idle_limit() -> None:
    text = write_pulse(PIER)
    assert read_pulse(text) == Pulse(
        **{**{name: getattr(PIER, name) for name in PIER.__slots__}, "tasks": (PIER.tasks[1], PIER.tasks[0])}
    )
    # There and back once a minute.
    assert 2 * len(text) / 60 < 15


def test_a_site_of_very_many_tasks_still_fits_and_says_what_is_left_out() -> None:
    many = tuple(TaskPulse(f"default/{'x' * 60}{n:03d}", 1, n, n, n, models={"m" * 80: 1}) for n in range(300))
    found = read_pulse(write_pulse(Pulse(NOW, tasks=many)))
    assert len(write_pulse(Pulse(NOW, tasks=many))) <= MOST_BYTES
    assert 20 < len(found.tasks) <= MOST_TASKS
    assert found.left_out == 300 - len(found.tasks)
    assert max(task.wanted for task in found.tasks) == 299


def test_of_many_models_the_most_frequent_are_named() -> None:
    models = {f"m@{n:012x}": n + 1 for n in range(20)}
    (task,) = read_pulse(write_pulse(Pulse(NOW, tasks=(TaskPulse("a/b", 210, models=models),)))).tasks
    assert (len(task.models), sum(task.models.values())) == (8, 210)
    assert task.models["m@000000000013"] == 20
    assert "*" in task.models


def change(**words: Any) -> str:
    return json.dumps({**json.loads(write_pulse(PIER)), **words})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a pulse: JSONDecodeError"),
        ("[]", "not a pulse: TypeError"),
        (change(v=2), "a pulse of version 2; known is 1"),
        (change(at=-1), "-1 is out of range"),
        (change(at=float("nan")), "'nan' is not a number"),
        (change(n=True), "'True' is not a number"),
        (change(nodes=[1]), "not a pulse: ValueError"),
        (change(t=[["<img src=x>", 1, 1, 1, 1, 1, 1, {}, 0]]), "'<img src=x>' is not a name"),
        (change(t=[["a", 1, 1, 1, 1, 1, 1, {"b c": 1}, 0]]), "'b c' is not a name"),
        (change(t=[["a", 1, 1, 1, 1, 1, 1, {f"m{n}": 1 for n in range(9)}, 0]]), "a task with 9 models; 8 are allowed"),
        (change(t=[["a"]] * 65), "a pulse of 65 tasks; 64 are allowed"),
        ("x" * (MOST_BYTES + 1), "a pulse of 12001 bytes; 12000 are allowed"),
        ("[" * 11000, "not a pulse: RecursionError"),
    ],
)
def test_a_pulse_that_cannot_be_is_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_pulse(text)
    assert message in caught.value.message
    assert len(caught.value.message) < 200


def test_a_hub_says_the_sum_of_what_is_below_it_and_so_does_the_one_above() -> None:
    station = add_pulses([PIER, QUAY], NOW)
    assert station is not None
    assert (station.sites, station.nodes, station.load, station.windows) == (2, (7, 8), (21, 30, 34), 2)
    assert station.window == (NOW + 3600, 1800)
    count, detect = station.tasks
    assert (count.name, count.sites) == ("default/count", 1)
    assert (detect.sites, detect.wanted, detect.ready, detect.cpu, detect.memory) == (2, 6, 5, 3500, 1412)
    assert (detect.models, detect.changing) == ({"yolo@4f53cda18c2b": 1, "yolo@aaaaaaaaaaaa": 1}, 1)
    assert station.links["beidou"] == LinkPulse(1, 0, 0, 3)
    top = add_pulses([read_pulse(write_pulse(station)), PIER], NOW)
    assert top is not None
    assert (top.sites, top.load[0], top.tasks[1].sites) == (3, 24, 3)
    assert add_pulses([], NOW) is None
    late = add_pulses([PIER, QUAY], NOW + 5500)
    assert late is not None
    assert late.window == PIER.window  # that of the other is over


def test_links_come_from_what_the_uplink_publishes() -> None:
    assert read_links(CHOICE) == {
        "ethernet": LinkPulse(0, 0, 1, 0),
        "5g": LinkPulse(1, 0, 0, 61),
        "4g": LinkPulse(0, 1, 0, 44),
    }
    with pytest.raises(UsageError, match="not the state of an uplink"):
        read_links({"links": [{"kind": "5g"}]})


def test_an_agent_tells_what_is_there_and_nothing_old(tmp_path: Path) -> None:
    assert load_own(tmp_path, NOW) is None
    (tmp_path / "uplink.json").write_text(json.dumps(CHOICE))
    found = load_own(tmp_path, NOW)
    assert found is not None
    assert (found.links["5g"].used, found.tasks) == (1, ())
    (tmp_path / "pulse.json").write_text(write_pulse(PIER) + "\n")
    found = load_own(tmp_path, NOW + 100)
    assert found is not None
    assert (len(found.tasks), set(found.links)) == (2, {"ethernet", "5g", "4g"})
    found = load_own(tmp_path, NOW + 300)
    assert found is not None
    assert set(found.links) == {"ethernet", "5g"}  # those that the pulse itself has
    assert load_own(tmp_path, NOW + 700) is None
    (tmp_path / "uplink.json").write_text("{")
    with pytest.raises(UsageError, match=r"uplink\.json: not JSON"):
        load_own(tmp_path, NOW)


class Local:
    def __init__(self, found: Any) -> None:
        self.found = found

    async def find(self, *words: Any) -> Any:
        return self.found


def test_the_agent_of_a_hub_tells_the_sums(tmp_path: Path) -> None:
    local: Any = Local(make_pulse_map(PIER))
    found = asyncio.run(load_pulse(local, tmp_path, True))
    assert found is not None
    assert found.nodes == (4, 5)
    assert asyncio.run(load_pulse(Local(None), tmp_path, True)) is None  # type: ignore[arg-type]


def test_a_lease_carries_it_and_loses_it_again() -> None:
    lease: dict[str, Any] = {"metadata": {"annotations": {"other": "x"}}, "spec": {"renewTime": "t"}}
    set_pulse(lease, PIER)
    assert keep_lease(lease) == Lease("t", write_pulse(PIER))
    set_pulse(lease, None)
    assert lease["metadata"]["annotations"] == {"other": "x"}
    assert keep_lease({"metadata": {}}) == Lease("")
    assert len(keep_lease({"metadata": {"annotations": {PULSE: "x" * 99999}}}).pulse) == MOST_BYTES + 1


def test_only_what_is_more_than_an_amount_is_told_before_its_time() -> None:
    busier = Pulse(**{**{name: getattr(PIER, name) for name in PIER.__slots__}, "load": (99, 9, 9), "at": NOW + 60})
    assert same_shape(PIER, busier)
    assert not same_shape(PIER, QUAY)
    assert not same_shape(PIER, None)
    assert same_shape(None, None)


def make_pulses(texts: Mapping[str, str], silent: str = "") -> Pulses:
    clusters = {}
    for name in texts:
        status = "Unknown" if name == silent else "True"
        conditions = [{"type": "ManagedClusterConditionAvailable", "status": status}]
        body = {"metadata": {"name": name}, "spec": {"hubAcceptsClient": True}, "status": {"conditions": conditions}}
        clusters[name] = make_cluster(body)
    leases = {name: Lease("t", text) for name, text in texts.items()}
    fleet: Any = SimpleNamespace(clusters=SimpleNamespace(found=clusters), leases=leases, get=clusters.get)
    return Pulses(fleet)


def test_a_hub_reads_each_text_once_and_names_those_that_cannot_be_read() -> None:
    pulses = make_pulses({"pier-7": write_pulse(PIER), "quay-1": write_pulse(QUAY), "odd": "{", "mute": ""}, "quay-1")
    assert [name for name, _ in pulses.all()] == ["pier-7", "quay-1"]
    assert pulses.get("pier-7") is pulses.get("pier-7")
    assert pulses.problems().keys() == {"odd"}
    total = pulses.total()
    assert total is not None
    assert total.sites == 1  # one that is out of touch does not count


def test_a_pulse_alone_is_no_sign_of_life() -> None:
    heard: list[str] = []
    kube: Any = None
    fleet = Fleet(kube)
    fleet.on_lease.append(lambda name, renewed: heard.append(renewed))
    for old, new in ((None, Lease("1")), (Lease("1"), Lease("1", "x")), (Lease("1", "x"), Lease("2", "x"))):
        fleet._lease("pier-7", old, new)
    fleet._lease("pier-7", Lease("2"), None)
    assert heard == ["1", "2", ""]


def test_prometheus_reads_usage_replicas_models_windows_and_links() -> None:
    lines = "".join(write_measures(make_pulses({"pier-7": write_pulse(PIER), "odd": "{"}))).splitlines()
    task = '{cluster="pier-7",task="default/detect"}'
    assert f"cumulet_task_replicas_wanted{task} 4" in lines
    assert f"cumulet_task_replicas_ready{task} 3" in lines
    assert f"cumulet_task_cpu_cores{task} 2.6" in lines
    assert f"cumulet_task_memory_bytes{task} 943718400" in lines
    model = '{cluster="pier-7",task="default/detect",model="yolo@4f53cda18c2b"}'
    assert f"cumulet_task_model_sites{model} 1" in lines
    assert f'cumulet_site_window_start_seconds{{cluster="pier-7"}} {NOW + 7200}' in lines
    assert 'cumulet_site_links{cluster="pier-7",kind="5g",state="used"} 1' in lines
    assert 'cumulet_site_load_percent{cluster="pier-7",of="gpu"} 60' in lines
    assert "cumulet_hub_pulses_unreadable 1" in lines
    assert len([line for line in lines if line.startswith("# TYPE")]) == len(
        {line.split()[2] for line in lines if line.startswith("# TYPE")}
    )
