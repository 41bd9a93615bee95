"""Which stages run and why, and that a stage's result is whole or not there."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import Problem, ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.plan import Stage, Step, Workshop, make_plan
from cumulet_builder.run_plan import Run, run_plan

EPOCH = 1_700_000_000


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def stage(name: str, *needs: str, make: Callable[[Workshop], None] | None = None, **inputs: str) -> Stage:
    """A stage that copies what it needs and adds its inputs."""

    def write(workshop: Workshop) -> None:
        before = [(folder / "out").read_text() for folder in workshop.needs.values()]
        (workshop.folder / "out").write_text(f"{name}({' '.join([*before, *inputs.values()])})")

    return Stage(name, inputs, make or write, needs)


def chain(**inputs: str) -> list[Stage]:
    """Three stages, each on the one before: a, b and c."""
    return [stage("a", x=inputs.get("a", "1")), stage("b", "a", y=inputs.get("b", "1"), z="0"), stage("c", "b", "a")]


def run(stages: Sequence[Stage], cache: Cache, last: dict[str, str], log: io.StringIO | None = None) -> list[str]:
    """Plan and run; returns the names of what ran, and updates `last`."""
    ran: list[str] = []
    steps = make_plan(stages, cache, last)

    def report(step: Step, seconds: float) -> None:
        if seconds >= 0:
            ran.append(step.stage.name)

    run_plan(steps, Run(cache, log or io.StringIO(), EPOCH, report))
    last.update({step.stage.name: step.key for step in steps})
    return ran


def reasons(stages: Sequence[Stage], cache: Cache, last: dict[str, str]) -> dict[str, str]:
    return {step.stage.name: step.reason for step in make_plan(stages, cache, last)}


# Reasons.


def test_everything_runs_once_and_the_second_run_does_nothing(cache: Cache) -> None:
    last: dict[str, str] = {}
    assert set(reasons(chain(), cache, last).values()) == {"never built"}
    assert run(chain(), cache, last) == ["a", "b", "c"]
    assert run(chain(), cache, last) == []
    assert set(reasons(chain(), cache, last).values()) == {"in the cache"}
    assert (cache.stage("c", last["c"]) / "out").read_text() == "c(b(a(1) 1 0) a(1))"


def test_the_reason_names_the_input_that_changed(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    found = reasons(chain(b="2"), cache, last)
    assert found == {"a": "in the cache", "b": "changed: y", "c": "changed: b"}


def test_a_later_stage_is_run_again_because_what_it_needs_has_changed(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    assert reasons(chain(a="2"), cache, last) == {"a": "changed: x", "b": "changed: a", "c": "changed: b, a"}
    assert run(chain(a="2"), cache, last) == ["a", "b", "c"]
    assert (cache.stage("c", last["c"]) / "out").read_text() == "c(b(a(2) 1 0) a(2))"


def test_going_back_to_an_earlier_recipe_runs_nothing(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    run(chain(a="2"), cache, last)
    assert run(chain(), cache, last) == []


def test_a_new_input_and_a_new_need_are_named(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    a, b, c = chain()
    more = [a, replace(b, inputs={**b.inputs, "more": "1"}), stage("d"), replace(c, needs=("a", "d"))]
    assert reasons(more, cache, last)["b"] == "changed: more"
    assert reasons(more, cache, last)["c"] == "changed: d"


def test_an_input_less_is_a_change(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    a, b, c = chain()
    assert reasons([a, replace(b, inputs={"y": "1"}), c], cache, last)["b"] == "changed"


@pytest.mark.parametrize("damage", ["gone", "truncated", "no record"])
def test_a_damaged_result_is_made_again_and_said_to_be_damaged(cache: Cache, damage: str) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    folder = cache.stage("b", last["b"])
    if damage == "gone":
        (folder / "out").unlink()
    if damage == "truncated":
        os.truncate(folder / "out", 1)
    if damage == "no record":
        (folder / "stage.json").unlink()
    assert reasons(chain(), cache, last) == {
        "a": "in the cache",
        "b": "its result is gone from the cache, or damaged",
        "c": "in the cache",
    }
    assert run(chain(), cache, last) == ["b"]
    assert (folder / "out").read_text() == "b(a(1) 1 0)"


def test_without_the_old_record_a_change_is_still_a_change(cache: Cache) -> None:
    assert reasons(chain(), cache, {"a": "0" * 32, "b": "0" * 32, "c": "0" * 32})["a"] == "changed"


# Running.


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_stage_that_breaks_is_not_there_and_the_next_run_goes_on_from_it(cache: Cache, error: BaseException) -> None:
    def breaks(workshop: Workshop) -> None:
        (workshop.folder / "out").write_text("half")
        raise error

    last: dict[str, str] = {}
    a, b, c = chain()
    with pytest.raises(type(error)):
        run([a, replace(b, make=breaks), c], cache, last)
    step = make_plan(chain(), cache, last)[1]
    assert not cache.stage("b", step.key).exists()
    assert reasons(chain(), cache, last) == {"a": "in the cache", "b": "never built", "c": "never built"}
    assert run(chain(), cache, last) == ["b", "c"]


@pytest.mark.parametrize(
    "error", [ToolError("no mkfs", hint="get it"), UsageError("2 problems", problems=[Problem("r", 1, 1, "p")])]
)
def test_an_error_says_which_stage_it_is_of_and_keeps_all_else(cache: Cache, error: ToolError | UsageError) -> None:
    before = (error.message, error.hint, error.exit_code)

    def breaks(_: Workshop) -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        run([stage("image", make=breaks)], cache, {})
    assert (caught.value.message, caught.value.hint, caught.value.exit_code) == (f"image: {before[0]}", *before[1:])
    assert str(caught.value) == caught.value.message
    assert getattr(caught.value, "problems", ()) == getattr(error, "problems", ())


def test_a_full_disk_is_an_error_of_the_stage(cache: Cache) -> None:
    def breaks(_: Workshop) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(ToolError, match=r"^erofs: .*/stages/erofs/.*: no space left on this disk$") as caught:
        run([stage("erofs", make=breaks)], cache, {})
    assert caught.value.exit_code == 3


def test_a_stage_gets_an_empty_folder_its_needs_and_the_date(cache: Cache) -> None:
    seen: list[Workshop] = []

    def look(workshop: Workshop) -> None:
        assert list(workshop.folder.iterdir()) == []
        workshop.log.write("working\n")
        seen.append(workshop)

    log = io.StringIO()
    last: dict[str, str] = {}
    run([stage("a", x="1"), stage("b"), stage("c", "a", make=look)], cache, last, log)
    (workshop,) = seen
    assert workshop.needs == {"a": cache.stage("a", last["a"])}
    assert workshop.epoch == EPOCH
    assert [line.split(":")[0] for line in log.getvalue().splitlines()][-3:] == ["== c", "working", "== c"]
    assert "== c: never built\n" in log.getvalue()


def test_a_kept_result_that_was_changed_is_not_built_upon(cache: Cache) -> None:
    last: dict[str, str] = {}
    run(chain(), cache, last)
    (cache.stage("a", last["a"]) / "out").write_text("a(7)")
    with pytest.raises(ToolError) as caught:
        run(chain(b="2"), cache, dict(last))
    place = cache.stage("a", last["a"]) / "out"
    assert caught.value.message == f"b: {place}: damaged in the cache"
    assert caught.value.hint == "it was removed; run the same command again"
    assert run(chain(b="2"), cache, last) == ["a", "b", "c"]
    assert (cache.stage("b", last["b"]) / "out").read_text() == "b(a(1) 2 0)"


def test_what_another_build_has_made_meanwhile_is_used(cache: Cache) -> None:
    steps = make_plan(chain(), cache, {})
    run(chain(), cache, {})
    folder = cache.stage("a", steps[0].key)
    before = folder.stat().st_ino
    run_plan(steps, Run(cache, io.StringIO(), EPOCH, lambda step, seconds: None))
    assert folder.stat().st_ino == before
