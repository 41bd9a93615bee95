"""Carrying a plan out, with hosts and a keeper that only remember: order, limits, errors, notes, secrets."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from cumulet.core.errors import CumuletError, TargetError, ToolError
from cumulet.site import act, readiness
from cumulet.site.act import Crew, Event, carry_out, raise_all
from cumulet.site.actions import Fetch, Late, Phase, Plan, Put, Ready, Run, Step, Wait, describe
from cumulet.site.keeper import Keeper
from cumulet.site.ssh import Host, Result, failure

SECRET = "K10abc::server:secret"
OK = Result(0, "", "")


@dataclass
class FakeHost:
    """Remembers what it was asked to do; `answer` says how programs end."""

    name: str
    log: list[str]
    answer: Callable[[tuple[str, ...]], Result] = lambda argv: OK
    files: dict[str, str] = field(default_factory=dict)
    inputs: list[str | bytes | None] = field(default_factory=list)
    pause: float = 0.0
    busy: list[int] = field(default_factory=lambda: [0, 0])

    async def run(
        self, argv: Sequence[str], *, input: str | bytes | None = None, seconds: float = 120.0, check: bool = True
    ) -> Result:
        words = tuple(argv)
        if words[:2] == ("sh", "-c") and "journal" in words:
            self.log.append(f"{self.name} journal {words[-2]} {words[-1]}")
            return OK
        self.inputs.append(input)
        self.log.append(f"{self.name} runs {' '.join(words)}")
        self.busy[0] += 1
        self.busy[1] = max(self.busy)
        await asyncio.sleep(self.pause)
        self.busy[0] -= 1
        result = self.answer(words)
        if check and result.code != 0:
            raise failure(self.name, words, result)
        return result

    async def put_all(self, files: Sequence[tuple[str, bytes, int]]) -> None:
        self.log.append(f"{self.name} writes {' '.join(path for path, _, _ in files)}")
        self.files |= {path: f"{mode:o} {data.decode()}" for path, data, mode in files}

    async def read(self, path: str) -> str:
        return self.files[path].partition(" ")[2]


class FakeKeeper:
    """Remembers the notes."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.notes: list[dict[str, Any]] = []

    async def note(self, **entry: object) -> None:
        self.notes.append(entry)
        self.log.append(f"note {entry['step']} {entry['state']}")


@dataclass
class Work:
    """A plan's run: who did what."""

    log: list[str] = field(default_factory=list)
    hosts: dict[str, FakeHost] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.hosts = {name: FakeHost(name, self.log) for name in ("p1", "p2", "p3")}
        self.keeper = FakeKeeper(self.log)
        self.crew = Crew(
            cast("dict[str, Host]", self.hosts), cast("Keeper", self.keeper), self.events.append, {"token": SECRET}
        )

    def run(self, plan: Plan) -> None:
        asyncio.run(carry_out(plan, self.crew))

    @property
    def ran(self) -> list[str]:
        return [each for each in self.log if " runs " in each]


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    monkeypatch.setattr(act, "WAIT_EVERY", 0.001)
    monkeypatch.setattr(readiness, "EVERY", 0.001)
    return Work()


def step(host: str, *argv: str, name: str = "a.step") -> Step:
    return Step(name, host, "do it", "must be", (Run(argv),))


def fails(text: str = "no luck", code: int = 3) -> Callable[[tuple[str, ...]], Result]:
    return lambda argv: Result(code, "", text)


def test_phases_and_steps_run_in_their_order(work: Work) -> None:
    one, two = Phase("a", "first", (step("p2", "1"), step("p1", "2"))), Phase("b", "second", (step("p3", "3"),), 8)
    work.run((one, two))
    assert work.ran == ["p2 runs 1", "p1 runs 2", "p3 runs 3"]


def test_a_step_is_noted_before_and_after_on_both_sides(work: Work) -> None:
    work.run((Phase("a", "first", (step("p2", "true"),)),))
    assert work.log == [
        "note a.step@p2 start",
        "p2 journal a.step start",
        "p2 runs true",
        "p2 journal a.step done",
        "note a.step@p2 done",
    ]
    assert [(each.state, each.step.id, each.phase) for each in work.events] == [
        ("start", "a.step@p2", "a"),
        ("done", "a.step@p2", "a"),
    ]
    (entry,) = work.crew.record
    assert {**entry, "seconds": 0} == {"phase": "a", "step": "a.step", "host": "p2", "seconds": 0, "state": "done"}


def test_steps_of_one_device_keep_their_order_side_by_side_with_others(work: Work) -> None:
    steps = tuple(step(host, f"{number}") for number in (1, 2) for host in ("p1", "p2", "p3"))
    work.run((Phase("w", "workers", steps, 8),))
    for host in work.hosts:
        assert [each for each in work.ran if each.startswith(host)] == [f"{host} runs 1", f"{host} runs 2"]


@pytest.mark.parametrize(("limit", "most"), [(2, 2), (3, 3), (50, 3)])
def test_no_more_devices_are_worked_on_than_the_limit(work: Work, limit: int, most: int) -> None:
    busy = [0, 0]
    for host in work.hosts.values():
        host.pause, host.busy = 0.01, busy
    work.run((Phase("w", "workers", tuple(step(name, "x") for name in work.hosts), limit),))
    assert busy[1] == most


def test_a_phase_beside_others_is_over_before_the_one_that_needs_it(work: Work) -> None:
    for name, pause in (("p1", 0.01), ("p3", 0.03)):
        work.hosts[name].pause = pause
    ahead = Phase("ahead", "workers", (step("p3", "1"), step("p3", "2")), 8, ("m",))
    work.run((ahead, Phase("m", "masters", (step("p1", "3"),)), Phase("w", "workers", (step("p2", "4"),))))
    # The masters do not wait for the workers, and who needs the workers does.
    assert work.ran.index("p1 runs 3") < work.ran.index("p3 runs 2") < work.ran.index("p2 runs 4") == 3
    assert len(work.crew.record) == 4


def test_errors_of_a_phase_and_of_what_went_on_beside_it_are_one(work: Work) -> None:
    work.hosts["p3"].pause = 0.01
    for name in ("p1", "p3"):
        work.hosts[name].answer = fails()
    ahead = Phase("ahead", "workers", (step("p3", "1"), step("p3", "never")), 8, ("m",))
    plan = (ahead, Phase("m", "masters", (step("p1", "2"),)), Phase("w", "workers", (step("p2", "never"),)))
    with pytest.raises(TargetError, match="2 devices failed") as caught:
        work.run(plan)
    assert caught.value.message.count("no luck") == 2
    assert sorted(work.ran) == ["p1 runs 2", "p3 runs 1"]


def test_a_failure_beside_stops_before_the_phase_that_needs_it(work: Work) -> None:
    work.hosts["p3"].answer = fails()
    ahead = Phase("ahead", "workers", (step("p3", "1"),), 8, ("m",))
    plan = (ahead, Phase("m", "masters", (step("p1", "2"),)), Phase("w", "workers", (step("p2", "never"),)))
    with pytest.raises(CumuletError, match="no luck"):
        work.run(plan)
    assert sorted(work.ran) == ["p1 runs 2", "p3 runs 1"]


def test_nothing_goes_on_beside_a_run_that_is_interrupted(work: Work) -> None:
    work.hosts["p3"].pause = 0.01

    def interrupt(words: tuple[str, ...]) -> Result:
        raise KeyboardInterrupt

    work.hosts["p1"].answer = interrupt
    ahead = Phase("ahead", "workers", (step("p3", "1"), step("p3", "never")), 8, ("m",))
    with pytest.raises(KeyboardInterrupt):
        work.run((ahead, Phase("m", "masters", (step("p1", "2"),))))
    assert "p3 runs never" not in work.ran


def test_files_that_follow_each_other_are_written_in_one_go(work: Work) -> None:
    actions = (Put("/a", "1"), Put("/b", "2"), Run(("between",)), Put("/c", "3"))
    work.run((Phase("a", "first", (Step("a", "p1", "", "", actions),)),))
    assert work.log[2:5] == ["p1 writes /a /b", "p1 runs between", "p1 writes /c"]


def test_a_failure_ends_the_plan_and_leaves_a_mark(work: Work) -> None:
    work.hosts["p1"].answer = fails()
    plan = (Phase("a", "first", (step("p1", "false"), step("p2", "never"))), Phase("b", "next", (step("p3", "never"),)))
    with pytest.raises(TargetError) as caught:
        work.run(plan)
    assert (caught.value.message, caught.value.hint) == ("p1: false exited with code 3\nno luck", "on p1: false")
    assert work.ran == ["p1 runs false"]
    assert work.crew.record[-1]["state"] == "failed"
    assert (work.events[-1].state, work.events[-1].text) == ("failed", caught.value.message)
    # The device's own mark stays, for the next run to see.
    assert "p1 journal a.step done" not in work.log


def test_all_devices_that_failed_are_named_and_the_others_finish(work: Work) -> None:
    work.hosts["p1"].answer, work.hosts["p3"].answer = fails("one"), fails("three")
    steps = tuple(step(host, f"{number}") for number in (1, 2) for host in work.hosts)
    with pytest.raises(TargetError) as caught:
        work.run((Phase("w", "workers", steps, 3), Phase("n", "next", (step("p2", "never"),))))
    assert caught.value.message == (
        "2 devices failed\np1: 1 exited with code 3\none\n  on p1: 1\np3: 1 exited with code 3\nthree\n  on p3: 1"
    )
    assert caught.value.hint == "run the same command again"
    assert "p2 runs 2" in work.log
    assert "p2 runs never" not in work.log


def test_one_error_is_raised_as_it_is() -> None:
    raise_all([])
    error = ToolError("x")
    with pytest.raises(ToolError) as caught:
        raise_all([error])
    assert caught.value is error


def test_a_bug_is_not_hidden_among_failures(work: Work) -> None:
    def bug(argv: tuple[str, ...]) -> Result:
        raise ZeroDivisionError

    work.hosts["p1"].answer, work.hosts["p2"].answer = fails(), bug
    with pytest.raises(ZeroDivisionError):
        work.run((Phase("w", "workers", (step("p1", "x"), step("p2", "x")), 3),))


def test_waiting_goes_on_until_the_answer_is_yes(work: Work) -> None:
    answers = iter([Result(1, "", "not yet"), Result(1, "", "not yet"), OK])
    work.hosts["p1"].answer = lambda argv: next(answers)
    wait = Wait("it is there", ("test", "-e", "/x"), 60)
    work.run((Phase("a", "first", (Step("a", "p1", "", "", (wait,)),)),))
    assert len(work.ran) == 3


def test_waiting_in_vain_ends_with_what_was_said_last(work: Work) -> None:
    work.hosts["p1"].answer = fails("still not", 1)
    wait = Wait("it is there", ("test", "-e", "/x"), 0.01)
    with pytest.raises(TargetError) as caught:
        work.run((Phase("a", "first", (Step("a", "p1", "", "", (wait,)),)),))
    assert caught.value.message == "p1: not within 0 s: it is there\np1: test exited with code 1\nstill not"
    assert caught.value.hint == "on p1: test -e /x"


def make_node_item(name: str, ready: str) -> dict[str, Any]:
    return {
        "kind": "Node",
        "metadata": {"name": name},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def test_nodes_are_waited_for_until_all_are_ready(work: Work) -> None:
    def answer(states: tuple[str, ...]) -> Result:
        items = [make_node_item(f"p{number}", state) for number, state in enumerate(states, 1)]
        return Result(0, json.dumps({"items": items}), "")

    answers = iter([Result(1, "", "refused"), answer(("True",)), answer(("True", "False")), answer(("True", "True"))])
    work.hosts["p1"].answer = lambda argv: next(answers)
    ready = Ready((("p1", "10.0.0.1"), ("p2", "10.0.0.2")), ("kubectl",))
    work.run((Phase("a", "first", (Step("a", "p1", "", "", (ready,)),)),))
    assert work.ran == ["p1 runs kubectl get csr,nodes -o json"] * 4


@pytest.mark.parametrize(("program", "unit"), [("kubectl", "kubelet"), ("k3s", "k3s -u k3s-agent")])
def test_nodes_that_do_not_become_ready_are_named(work: Work, program: str, unit: str) -> None:
    work.hosts["p1"].answer = fails("The connection was refused", 1)
    ready = Ready((("p2", "10.0.0.2"), ("p1", "10.0.0.1")), (program,), 0.01)
    with pytest.raises(TargetError) as caught:
        work.run((Phase("a", "first", (Step("a", "p1", "", "", (ready,)),)),))
    assert caught.value.message == "not Ready within 0 s: p1, p2\nThe connection was refused"
    assert caught.value.hint == f"on the device: journalctl -u {unit}"


def test_what_is_read_on_one_device_is_written_on_another(work: Work) -> None:
    work.hosts["p1"].files["/token"] = f"600 {SECRET}"
    work.hosts["p1"].answer = lambda argv: Result(0, "made there\n", "")
    fetch = Step("get", "p1", "", "", (Fetch("/token", "got"), Run(("make",), into="made")))
    both = Late("both", lambda vault: f"{vault['got']} {vault['made']}")
    put = Step("put", "p2", "", "", (Put("/file", both, 0o600), Run(("read",), both)))
    work.run((Phase("a", "first", (fetch, put)),))
    assert work.hosts["p2"].files == {"/file": f"600 {SECRET} made there"}
    assert work.hosts["p2"].inputs[-1] == f"{SECRET} made there"


def test_a_secret_is_in_no_note_no_event_and_no_record(work: Work) -> None:
    late = Late("the token", lambda vault: vault["token"])
    actions = (Put("/token", late, 0o600), Run(("join",), late), Wait("joined", ("see",), 1, late))
    doing = Step("join", "p1", "join", "is not in", actions)
    work.run((Phase("a", "first", (doing,)),))
    assert work.hosts["p1"].inputs == [SECRET, SECRET]
    assert work.hosts["p1"].files == {"/token": f"600 {SECRET}"}
    seen = [repr(doing), repr(work.events), repr(work.keeper.notes), repr(work.crew.record), *work.log]
    assert not [each for each in seen + [describe(each) for each in actions] if SECRET in each]
    assert re.fullmatch(r"write /token \(mode 600\): <the token>", describe(actions[0]))
