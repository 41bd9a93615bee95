"""`cumulet task`: the plan as a person and as a program reads it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from cumulet import supercontainer, tasks
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.packing import Decision, name_containers
from cumulet.supercontainer import Fetched, SuperStatus
from cumulet.tasks import TaskProfile
from cumulet_builder.cli import main

Write = Callable[[str, str], Path]
EDGE = "version: 1\nedge: pier-7\nnodes:\n" + "".join(
    f"  - {{name: p{number}, cpus: 8, memory: 8GiB, gpu: {{}}}}\n" for number in range(1, 6)
)
SMALL = "version: 1\ntask: small\nimage: small:1\ncpu: 15\ngpu: 10\nreplicas: {least: 5}\n"
BIG = "version: 1\ntask: big\nimage: big:1\ncpu: 60\n"
HUGE = "version: 1\ntask: huge\nimage: huge:1\ncpu: 250\nmergeable: true\n"

FETCH = "huge: a super container of 3 members, `cumulet super result huge --out FILE --wait SECONDS` fetches its result"


@pytest.fixture
def documents(write: Write) -> None:
    write("edge.yaml", EDGE)
    for name, text in (("small", SMALL), ("big", BIG), ("huge", HUGE)):
        write(f"{name}.yaml", text)


@pytest.mark.usefixtures("documents")
def test_a_plan_says_where_everything_goes_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "plan", "small.yaml", "big.yaml", "huge.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == (
        "huge                 super    250 % of a node's CPU: more than a whole node, 3 whole nodes: p1, p2, p3"
    )
    assert lines[1] == "big                  own      60 % of a node's CPU: not under the limit, p4 to itself"
    assert lines[2].startswith("small-1              shares   15 % of a node's CPU and 10 % of a node's GPU: under")
    assert lines[-2] == FETCH
    assert lines[-1] == "pier-7: 5 of 5 nodes have a task; no way needs fewer"


@pytest.mark.usefixtures("documents")
def test_a_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "plan", "big.yaml", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["busy"], found["bound"], found["nodes"]) == (1, 1, 5)
    assert found["decisions"][0]["asks"] == {"cpu": 4800, "gpu": 0, "memory": 256 << 20}


@pytest.mark.usefixtures("documents")
def test_what_has_no_place_ends_with_code_4(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["task", "plan", "huge.yaml", "big.yaml", "--nodes", "3"]) == 4
    error = capsys.readouterr().err
    assert "big has no place: 60 % of a node's CPU: not under the limit, needs a node to itself, none is free" in error
    assert main(["task", "plan", "big.yaml", "big.yaml"]) == 2
    assert "task 'big' is in two documents" in capsys.readouterr().err


@pytest.mark.usefixtures("documents")
def test_what_if_there_were_a_thousand_nodes(capsys: pytest.CaptureFixture[str]) -> None:
    begin = time.process_time()
    assert main(["task", "plan", "small.yaml", "big.yaml", "--nodes", "1000", "--times", "400", "--json"]) == 0
    assert time.process_time() - begin < 2.0
    found = json.loads(capsys.readouterr().out)
    assert (found["nodes"], len(found["decisions"]), found["busy"]) == (1000, 2400, 400 + 334)


class FakeController:
    """Starts and fetches nothing; what was asked of it."""

    asked: list[Any]
    ready = False

    def __init__(self, api: object, namespace: str, listen: Callable[[str], None]) -> None:
        self.namespace = namespace

    async def start(self, profile: TaskProfile, decision: Decision, *, wait: float, **more: str) -> None:
        self.asked.append((profile.task, self.namespace, decision.nodes, wait, more))

    async def status(self, name: str) -> SuperStatus:
        return SuperStatus(name, "collecting", (), result={"size": 4} if self.ready else None)

    async def follow(self, name: str, deadline: Deadline) -> SuperStatus:
        self.asked.append(("follow", name, deadline.seconds))
        return SuperStatus(name, "merged", (), result={"size": 4})

    async def fetch(self, name: str, status: SuperStatus, target: Path) -> Fetched:
        if status.result is None:
            raise TargetError(f"{name}: there is no result yet: {status.state}")
        return Fetched(target, 4, "ab", {"kind": "bytes", "shape": [], "dtype": ""})

    async def remove(self, name: str) -> None:
        self.asked.append(("remove", name))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, documents: None) -> list[Any]:
    """A cluster of the nodes of edge.yaml, where everything comes to lie as it was planned; what was asked of it."""

    @contextlib.asynccontextmanager
    async def reach(site: Path, kubeconfig: Path | None = None) -> AsyncIterator[tasks.Reached]:
        yield tasks.Reached(None, "pier-7")  # type: ignore[arg-type]

    async def submit(api: object, profiles: list[TaskProfile], *, namespace: str, spread: tasks.Spread) -> object:
        plan = tasks.plan_tasks(profiles, tasks.load_edge(Path("edge.yaml")))
        for each in plan.decisions:
            if each.kind == "super":
                await spread(next(one for one in profiles if one.task == each.need.name), each)
        places = {name: node for each in plan.decisions for name, node in name_containers(each).items()}
        return tasks.Submitted(plan, places, ())

    monkeypatch.setattr(tasks, "reach", reach)
    monkeypatch.setattr(tasks, "submit", submit)
    monkeypatch.setattr(supercontainer, "Controller", FakeController, raising=False)
    FakeController.asked, FakeController.ready = [], False
    return FakeController.asked


def test_run_starts_a_super_container_itself_and_says_how_its_result_is_fetched(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["task", "run", "big.yaml", "huge.yaml", "--namespace", "edge", "--engine", "dask"]) == 0
    assert asked == [("huge", "edge", ("p1", "p2", "p3"), 120.0, {"engine": "dask", "keep": "taken"})]
    assert capsys.readouterr().out.splitlines() == [
        "huge-0               p1",
        "huge-1               p2",
        "huge-2               p3",
        "big                  p4",
        FETCH,
    ]


def test_the_result_of_a_super_container_is_waited_for_if_somebody_says_so(
    asked: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["super", "result", "huge", "--out", "result"]) == 4
    assert "huge: there is no result yet: collecting" in capsys.readouterr().err
    assert main(["super", "result", "huge", "--out", "result", "--wait", "30"]) == 0
    assert asked == [("follow", "huge", 30.0), ("remove", "huge")]
    FakeController.ready = True
    assert main(["super", "result", "huge", "--out", "result", "--wait", "30"]) == 0
    assert asked[2:] == [("remove", "huge")]
    assert capsys.readouterr().out == "result: bytes, 4 bytes, sha256 ab\n" * 2
