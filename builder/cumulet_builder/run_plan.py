"""Running a plan: each stage that the cache lacks, in order; results appear whole or not at all."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cumulet.core.errors import CumuletError, ToolError
from cumulet_builder.cache import Cache
from cumulet_builder.plan import Step, Workshop

Report = Callable[[Step, float], None]
"""Called before a stage runs (seconds -1) and after it (seconds it took)."""


@dataclass(frozen=True)
class Run:
    """What every stage of one build shares."""

    cache: Cache
    log: IO[str]
    epoch: int
    report: Report
    tell: Callable[[str], None] = lambda text: None


def run_plan(steps: Sequence[Step], run: Run) -> dict[str, Path]:
    """Run what must run; returns the folder of every stage's result by name.

    An error of a stage is raised again with the stage's name before its message.
    """
    folders: dict[str, Path] = {}
    trusted: set[str] = set()
    for step in steps:
        name = step.stage.name
        if step.run:
            _check_needs(step, trusted, run.cache)
            _run_step(step, folders, run)
            trusted.add(name)
        folders[name] = run.cache.stage(name, step.key)
    return folders


def _check_needs(step: Step, trusted: set[str], cache: Cache) -> None:
    """Refuse to work with kept results that have changed since they were made."""
    for name in step.stage.needs:
        key = step.need_keys[name]
        damaged = cache.check_stage(name, key) if name not in trusted else []
        if damaged:
            place = cache.stage(name, key) / damaged[0]
            cache.drop_stage(name, key)
            raise ToolError(
                f"{step.stage.name}: {place}: damaged in the cache",
                hint="it was removed; run the same command again",
            )
        trusted.add(name)


def _run_step(step: Step, folders: dict[str, Path], run: Run) -> None:
    stage = step.stage
    run.report(step, -1.0)
    start = time.monotonic()
    run.log.write(f"== {stage.name}: {step.reason}\n")
    run.log.flush()
    needs = {name: folders[name] for name in stage.needs}
    try:
        with run.cache.only_maker(stage.name, step.key):
            _make(step, needs, run)
    except CumuletError as error:
        error.message = f"{stage.name}: {error.message}"
        error.args = (error.message,)
        raise
    took = time.monotonic() - start
    run.log.write(f"== {stage.name}: {took:.1f} s\n")
    run.report(step, took)


def _make(step: Step, needs: dict[str, Path], run: Run) -> None:
    stage = step.stage
    if run.cache.have_stage(stage.name, step.key):
        run.log.write("made by another build meanwhile\n")
        return
    run.cache.drop_stage(stage.name, step.key)
    with run.cache.making(stage.name, step.key, {**stage.inputs}) as folder:
        stage.make(Workshop(folder, needs, run.cache, run.log, run.epoch, run.tell))
