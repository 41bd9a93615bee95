"""A flash plan as data: what was checked, what will be done, in order. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cumulet.core import proc
from cumulet.core.errors import TargetError
from cumulet.core.files import sha256_text
from cumulet_builder.report.text import make_size

VERSION = 1


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so before anything is written. `ok` is None where no device is there to be asked."""

    name: str
    wanted: str
    found: str
    ok: bool | None
    message: str = ""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do. `argv` is the program that does it; without one, cumulet does it itself.

    `bytes` are written to the device or read from it, `ranges` are first and last blocks of 4096 bytes where it is
    not the whole. `sha256` is the file's. `done`: an earlier run did it, and it is passed over.
    """

    id: str
    argv: tuple[str, ...] = ()
    bytes: int = 0
    sha256: str = ""
    ranges: tuple[tuple[int, int], ...] = ()
    done: bool = False

    @property
    def key(self) -> str:
        """What tells this step from the same one with another content."""
        return sha256_text(json.dumps([self.id, self.sha256, self.bytes, self.ranges]))[:32]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything about one flashing. `device` is empty in a plan that no device was asked for."""

    image: str
    board: str
    method: str
    device: str
    checks: tuple[Check, ...]
    steps: tuple[Step, ...]
    notes: tuple[str, ...] = ()

    @property
    def left(self) -> tuple[Step, ...]:
        """The steps that this run does."""
        return tuple(step for step in self.steps if not step.done)


def refuse_unsafe(plan: Plan) -> None:
    """Raise TargetError with every check that failed; nothing has been written then."""
    failed = [check for check in plan.checks if check.ok is False]
    if not failed:
        return
    text = "; ".join(check.message or f"{check.name} is {check.found}, not {check.wanted}" for check in failed)
    hint = next((check.hint for check in failed if check.hint), "")
    raise TargetError(f"{plan.device}: {text}", hint=hint or "nothing was written")


def make_document(plan: Plan) -> dict[str, Any]:
    """The plan as plain data for JSON."""
    return {"version": VERSION, **asdict(plan)}


def make_lines(plan: Plan) -> Iterator[str]:
    """The plan for people."""
    yield f"{plan.image} for {plan.board}, by {plan.method}, to {plan.device or 'a device that is not there yet'}"
    for check in plan.checks:
        mark = {True: "fine", False: "WRONG", None: "not asked"}[check.ok]
        yield f"  {mark:<10} {check.name:<24} {check.message or check.found or check.wanted}"
    for number, step in enumerate(plan.steps, start=1):
        size = f" ({make_size(step.bytes)})" if step.bytes else ""
        yield f"  {number:>2}. {step.id}{size}{': done by an earlier run' if step.done else ''}"
        if step.argv and not step.done:
            yield f"      {proc.quote(step.argv)}"
    for note in plan.notes:
        yield f"  note: {note}"


def sum_bytes(steps: Sequence[Step]) -> int:
    """Bytes that these steps write."""
    return sum(step.bytes for step in steps if not step.id.startswith("verify"))
