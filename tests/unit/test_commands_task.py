"""`cumulet task`: the plan as a person and as a program reads it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet_builder.cli import main

Write = Callable[[str, str], Path]
EDGE = "version: 1\nedge: pier-7\nnodes:\n" + "".join(
    f"  - {{name: p{number}, cpus: 8, memory: 8GiB, gpu: {{}}}}\n" for number in range(1, 6)
)
SMALL = "version: 1\ntask: small\nimage: small:1\ncpu: 15\ngpu: 10\nreplicas: {least: 5}\n"
BIG = "version: 1\ntask: big\nimage: big:1\ncpu: 60\n"
HUGE = "version: 1\ntask: huge\nimage: huge:1\ncpu: 250\nmergeable: true\n"


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
    assert lines[-2] == (
        "huge: a super container of 3 members, `cumulet super result huge --out FILE --wait SECONDS` fetches its result"
    )
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
