"""Which stages a build runs, and why: pure, from stages and what the cache has."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cumulet_builder.cache import Cache, make_key, read_record


@dataclass(frozen=True)
class Workshop:
    """What a running stage gets: its empty folder, the folders of the stages it needs, a log.

    `tell` shows people how far a long stage has come.
    """

    folder: Path
    needs: Mapping[str, Path]
    cache: Cache
    log: IO[str]
    epoch: int
    tell: Callable[[str], None] = lambda text: None


@dataclass(frozen=True)
class Stage:
    """A step of a build with everything that decides its result.

    `inputs` holds every value that decides the result, as text (big ones as a
    digest); what is not in `inputs` or `needs` must not change it. `make` fills
    the folder of its `Workshop`. `files` are the digests of the files that it
    reads from the cache, so that only what a build needs is fetched.
    """

    name: str
    inputs: Mapping[str, str]
    make: Callable[[Workshop], None]
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A stage with its key, whether it must run, and why."""

    stage: Stage
    key: str
    run: bool
    reason: str
    need_keys: Mapping[str, str] = field(default_factory=dict)


def make_plan(stages: Sequence[Stage], cache: Cache, last: Mapping[str, str]) -> list[Step]:
    """One step per stage, in order. `last` maps stage names to the keys of the image's last build."""
    steps: list[Step] = []
    by_name: dict[str, Step] = {}
    for stage in stages:
        needs = {name: by_name[name].key for name in stage.needs}
        key = make_key(stage.name, stage.inputs, needs)
        have = cache.have_stage(stage.name, key)
        reason = "in the cache" if have else _reason(stage, key, by_name, cache, last)
        step = Step(stage, key, not have, reason, needs)
        steps.append(step)
        by_name[stage.name] = step
    return steps


def _reason(stage: Stage, key: str, done: Mapping[str, Step], cache: Cache, last: Mapping[str, str]) -> str:
    before = last.get(stage.name)
    if before is None:
        return "never built"
    if before == key:
        return "its result is gone from the cache, or damaged"
    record = read_record(cache.stage(stage.name, before))
    old = record.get("inputs", {}) if record else {}
    changed = [name for name in stage.inputs if old and old.get(name) != stage.inputs[name]]
    changed += [name for name in stage.needs if last.get(name) != done[name].key]
    return f"changed: {', '.join(changed)}" if changed else "changed"
