"""Task profile and edge profile: every mistake with its place, and percents turned into amounts."""

from __future__ import annotations

from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet.packing import Amounts, Need
from cumulet.tasks import (
    imagine,
    load_edge,
    make_amounts,
    make_needs,
    parse_profile,
    write_edge,
    write_profile,
)
from cumulet.tasks.need import describe_correction

MIB = 1 << 20
DIGEST = "sha256:" + "ab" * 32
GOOD = f"""\
version: 1
task: detect
image: registry.example/detect@{DIGEST}
command: [python3, -m, detect]
model: cumulet.dev/models/yolo@{DIGEST}
cpu: 15
gpu: 10
memory: 512MiB
data: {{input: /var/lib/cumulet/frames}}
replicas: {{least: 2, most: 6, calm: 1m}}
"""
STANDARD = Amounts(8000, 100, 8 << 30)


def problems_of(text: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        parse_profile(text, "task.yaml")
    return [str(each) for each in caught.value.problems]


def test_every_mistake_is_shown_at_once_with_its_place() -> None:
    text = """\
version: 1
task: Detect it
image: detect:1
model: yolo:8
cpu: 0
memory: 512MB
deadline: soon
replica: 2
data: {output: results}
"""
    assert problems_of(text) == [
        "task.yaml:2:7: task: 'Detect it' is not a name: use lower-case letters, digits and '-', up to 40",
        "task.yaml:4:8: model: 'yolo:8' is no model; write it like yolo@sha256:..., as `cumulet model push` shows it",
        "task.yaml:5:6: cpu: must be more than 0.0, got 0",
        "task.yaml:6:9: memory: not a size: '512MB'; write it like 512MiB",
        "task.yaml:7:11: deadline: not a time: 'soon'; write it like 10m",
        "task.yaml:8:1: unknown key 'replica' in task\n  did you mean 'replicas'?",
        "task.yaml:9:16: data.output: 'results' is not an absolute path",
    ]


def test_more_than_a_node_must_be_mergeable() -> None:
    text = "version: 1\ntask: train\nimage: train:1\ncpu: 250\ngpu: 120\n"
    hint = "\n  mergeable: true lets it be spread over several nodes; its results must then be merged"
    assert problems_of(text) == [
        f"task.yaml:4:6: cpu: 250 % is more than a whole node{hint}",
        f"task.yaml:5:6: gpu: 120 % is more than a whole node{hint}",
    ]
    assert parse_profile(text + "mergeable: true\n", "task.yaml").cpu == 250


def test_what_does_not_fit_together_is_said() -> None:
    text = "version: 1\ntask: t\nimage: t:1\ncpu: 5\n"
    assert problems_of(text + "deadline: 5m\n") == ["task.yaml:5:11: only what runs once has a deadline\n  runs: once"]
    assert problems_of(text + "runs: once\nreplicas: {least: 2}\n") == [
        "task.yaml:6:11: what runs once has no replicas\n  runs: always"
    ]
    assert problems_of(text + "replicas: {least: 3, most: 2}\n") == [
        "task.yaml:5:11: replicas.most 2 is less than replicas.least 3"
    ]
    assert problems_of(text.replace("version: 1", "version: 2"))[0].startswith(
        "task.yaml:1:10: task version 2 needs a newer cumulet"
    )


def test_a_profile_that_is_written_is_read_again() -> None:
    profile = parse_profile(GOOD, "task.yaml")
    assert parse_profile(write_profile(profile), "again.yaml") == profile
    assert (profile.replicas.limit, profile.runs, profile.mergeable) == (6, "always", False)


def test_declared_percents_are_of_the_usual_node() -> None:
    assert make_amounts(parse_profile(GOOD, "task.yaml"), STANDARD) == Amounts(1200, 10, 512 * MIB)


def test_what_was_measured_counts_more_than_what_was_declared() -> None:
    measured = "measured: {cpu: 22.5, gpu: 31.2, memory: 700MiB, cpus: 4, seconds: 60"
    unseen = parse_profile(GOOD + measured + "}\n", "task.yaml")
    assert make_amounts(unseen, STANDARD) == Amounts(990, 10, 770 * MIB)
    seen = parse_profile(GOOD + measured + ", gpu_seen: true}\n", "task.yaml")
    assert make_amounts(seen, STANDARD) == Amounts(990, 35, 770 * MIB)
    assert seen.measured is not None
    assert describe_correction(seen, seen.measured) == [
        "CPU: 15 % was declared, 22.5 % was measured",
        "GPU: 10 % was declared, 31.2 % was measured",
        "memory: 512MiB was declared, 700MiB was measured",
    ]


def test_every_container_is_a_need_of_its_own() -> None:
    profile = parse_profile(GOOD, "task.yaml")
    amounts = Amounts(1200, 10, 512 * MIB)
    assert make_needs([profile], STANDARD) == [Need("detect-1", amounts), Need("detect-2", amounts)]
    single = parse_profile(GOOD.replace("least: 2", "least: 1"), "task.yaml")
    assert [each.name for each in make_needs([single], STANDARD)] == ["detect"]
    assert [each.name for each in make_needs([single], STANDARD, 10)][::9] == ["detect-01", "detect-10"]


EDGE = """\
version: 1
edge: pier-7
nodes:
  - {name: p4, cpus: 7.8, memory: 7GiB, disk: 40GiB, gpu: {renderer: Adreno 630, speed: 41.5}, runtimes: [ncnn],
     link: {mbit: 940, milliseconds: 0.4}, load: {cpu: 12.5}, used: {cpu: 0.35, memory: 200MiB}, tasks: [a, b]}
  - {name: p5, cpus: 4, memory: 3.5GiB, whole: detect}
"""


def test_an_edge_is_rooms_for_the_rule(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(EDGE)
    edge = load_edge(path)
    first, second = edge.rooms
    assert (first.size, first.used, first.tasks) == (
        Amounts(7800, 100, 7 << 30),
        Amounts(350, 0, 200 * MIB),
        ("a", "b"),
    )
    assert (second.size, second.whole) == (Amounts(4000, 0, 3584 * MIB), "detect")
    again = tmp_path / "again.yaml"
    again.write_text(write_edge(edge))
    assert load_edge(again) == edge
    many = imagine(edge, 1000)
    assert [room.size.cpu for room in many].count(7800) == 500
    assert (many[0].name, many[999].name, {room.idle for room in many}) == ("node-0001", "node-1000", {True})


def test_mistakes_in_an_edge(tmp_path: Path) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(EDGE.replace("p5", "p4").replace("cpus: 4", "cpus: 4.5"))
    with pytest.raises(UsageError) as caught:
        load_edge(path)
    assert [str(each) for each in caught.value.problems] == [f"{path}:6:12: node 'p4' is there twice"]
    path.write_text("version: 1\nedge: x\nnodes: []\n")
    with pytest.raises(UsageError, match="an edge has at least one node"):
        load_edge(path)
