"""Deadlines, errors, and how both are told."""

from __future__ import annotations

import time

import pytest

from cumulet.core import deadline
from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, Problem, TargetError, ToolError, UsageError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, in an only element; sleeping moves it."""
    now = [100.0]
    monkeypatch.setattr(deadline.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(deadline.time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_what_is_left_ends_at_zero(clock: list[float]) -> None:
    limit = Deadline.after(10)
    assert (limit.left, limit.passed) == (10, False)
    clock[0] = 105
    assert limit.left == 5
    clock[0] = 999
    assert (limit.left, limit.passed) == (0, True)


def test_nobody_sleeps_past_a_deadline(clock: list[float]) -> None:
    limit = Deadline.after(10)
    limit.sleep(4)
    assert clock[0] == 104
    limit.sleep(60)
    assert clock[0] == 110
    limit.sleep(60)
    assert clock[0] == 110


def test_a_passed_deadline_says_what_was_not_done(clock: list[float]) -> None:
    limit = Deadline.after(90)
    limit.check("node Ready")
    clock[0] += 91
    with pytest.raises(TargetError, match=r"^node Ready: not done within 90 s$"):
        limit.check("node Ready")


def test_a_deadline_goes_by_a_clock_that_nobody_sets() -> None:
    before = time.monotonic()
    assert before + 5 <= Deadline.after(5).at <= time.monotonic() + 5


@pytest.mark.parametrize(
    ("kind", "code"), [(CumuletError, 1), (UsageError, 2), (ToolError, 3), (TargetError, 4)]
)  # fmt: skip
def test_every_class_of_errors_has_its_exit_code(kind: type[CumuletError], code: int) -> None:
    error = kind("what is", hint="what to do")
    assert (str(error), error.message, error.hint, error.exit_code) == ("what is", "what is", "what to do", code)
    assert isinstance(error, CumuletError)


def test_a_problem_is_written_with_its_place_if_that_is_known() -> None:
    assert str(Problem("a.yaml", 3, 4, "bad", "do x")) == "a.yaml:3:4: bad\n  do x"
    assert str(Problem("--set a", 0, 0, "bad")) == "--set a: bad"
    assert UsageError("x", problems=[Problem("a", 0, 0, "b")]).problems == (Problem("a", 0, 0, "b"),)
