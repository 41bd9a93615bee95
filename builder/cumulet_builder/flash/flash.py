"""Flashing an image, as a list of verbs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from cumulet.core.errors import UsageError
from cumulet.core.files import locked, sha256_text
from cumulet_builder.flash.methods import find_way
from cumulet_builder.flash.plan import Plan, refuse_unsafe
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget, check_files


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a flashing came to. `verified`: everything that was written was read back and found the same."""

    plan: Plan
    verified: bool


def make_plan(target: FlashTarget, around: Surroundings) -> Plan:
    """What would be done; nothing is changed. Without a device, the plan has what one would be asked."""
    way = find_way(target)
    device = around.device or way.find_device()
    facts = way.probe(target, replace(around, device=device)) if device else None
    return way.make_plan(target, facts)


def flash(target: FlashTarget, around: Surroundings, confirm: Callable[[Plan], bool]) -> Outcome:
    """Flash and verify; `confirm` is shown the plan and has the last word.

    Raises UsageError for a damaged image, TargetError for a device that must not be written, or that failed.
    """
    way = find_way(target)
    around = replace(around, device=around.device or way.find_device())
    with locked(around.notes / f".{sha256_text(around.device)[:16]}.lock", around.device or "the device"):
        facts = way.probe(target, around)
        plan = way.make_plan(target, facts)
        refuse_unsafe(plan)
        check_files(target)
        if any(step.argv for step in plan.left) and not confirm(plan):
            raise UsageError(f"{plan.device}: not flashed: nobody said yes", hint="--yes")
        way.act(target, plan, facts, around)
        return Outcome(plan, way.verify(target, plan, facts, around))
