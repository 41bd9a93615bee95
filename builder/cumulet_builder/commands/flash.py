"""`cumulet flash`: put a built image onto a device, checked before and after."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

if TYPE_CHECKING:
    from cumulet_builder.flash.flash import Outcome
    from cumulet_builder.flash.plan import Plan, Step


class Choices(TypedDict):
    """The options of `cumulet flash`."""

    device: str
    dry_run: bool
    yes: bool
    restart: bool
    out: Path
    as_json: bool


@click.command("flash")
@click.argument("image")
@click.option(
    "--to", "device", default="", metavar="DEVICE", help="A disk, /dev/sdX; or a phone: its serial, tcp:HOST:PORT."
)
@click.option("--dry-run", is_flag=True, help="Print the plan; write nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--restart", is_flag=True, help="Write everything, whatever an earlier run has done.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Where images are. [default: ./out]")
@click.option("--json", "as_json", is_flag=True, help="Print the plan or the result as JSON.")
def command(image: str, **choices: Unpack[Choices]) -> None:
    """Write IMAGE, a published folder or the name of an image, to a device.

    The board says how: by fastboot, by uuu, or to a disk of this computer. Nothing
    is written before every check has passed; what was cut off goes on where it was.
    """
    from cumulet_builder.cache import default_root
    from cumulet_builder.flash.flash import flash, make_plan
    from cumulet_builder.flash.surroundings import Surroundings
    from cumulet_builder.flash.target import load_target
    from cumulet_qemu.published import find_image

    as_json, yes = choices["as_json"], choices["yes"]
    target = load_target(find_image(image, choices["out"]))
    notes = default_root() / "flash"
    around = Surroundings(choices["device"], notes, choices["restart"], tell=lambda step: tell(step, as_json))
    if choices["dry_run"]:
        show_plan(make_plan(target, around), as_json)
    else:
        show(flash(target, around, lambda plan: yes or ask(plan)), as_json)


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print the plan, then refuse it if it is not safe: a dry run ends as the real one would."""
    from cumulet_builder.flash.plan import make_document, make_lines, refuse_unsafe

    click.echo(json.dumps(make_document(plan), indent=1) if as_json else "\n".join(make_lines(plan)))
    refuse_unsafe(plan)


def tell(step: Step, as_json: bool) -> None:
    """A step begins."""
    if not as_json:
        click.echo(f"  {step.id}", err=True)


def ask(plan: Plan) -> bool:
    """Show the plan and wait for a yes; without a terminal nobody can give one."""
    from cumulet_builder.flash.plan import make_lines

    if not sys.stdin.isatty():
        return False
    click.echo("\n".join(make_lines(plan)), err=True)
    return click.confirm(f"write to {plan.device}?", err=True)


def show(outcome: Outcome, as_json: bool) -> None:
    """What was done, and whether it was read back."""
    from cumulet_builder.flash.plan import make_document, sum_bytes
    from cumulet_builder.report.text import make_size

    plan, written = outcome.plan, sum_bytes(outcome.plan.left)
    if as_json:
        click.echo(json.dumps({**make_document(plan), "verified": outcome.verified, "written": written}, indent=1))
        return
    proof = "read back and found the same" if outcome.verified else "not read back"
    click.echo(f"{plan.image}: {make_size(written)} written to {plan.device}; {proof}")
    for note in plan.notes:
        click.echo(f"note: {note}")
