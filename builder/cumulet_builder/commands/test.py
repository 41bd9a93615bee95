"""`cumulet test`: boot an image in QEMU and run the boot checks that its recipe names."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import click

if TYPE_CHECKING:
    from cumulet_qemu.checking import Check, Request, Tally
    from cumulet_qemu.published import Published


class Choices(TypedDict):
    """The options of `cumulet test`."""

    out: Path
    firmware: bool
    memory: str | None
    cpus: int | None
    accel: Literal["tcg", "kvm"]
    junit: Path | None
    select: str | None
    logs: Path | None
    time_scale: float
    as_json: bool


@click.command("test")
@click.argument("image")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Where images are. [default: ./out]")
@click.option("--firmware", is_flag=True, help="Boot the disk through UEFI firmware instead of the kernel directly.")
@click.option("--memory", metavar="SIZE", help="Memory, such as 3GiB. [default: the board's]")
@click.option("--cpus", type=click.IntRange(1, 64), help="Processors. [default: the board's]")
@click.option("--accel", type=click.Choice(["tcg", "kvm"]), default="tcg", help="How code is run. [default: tcg]")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Write the results as JUnit XML.")
@click.option("--select", metavar="EXPRESSION", help="Only checks whose names match, as pytest -k takes it.")
@click.option("--logs", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the console transcripts.")
@click.option("--time-scale", type=float, default=1.0, help="Multiplies every deadline.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(image: str, **choices: Unpack[Choices]) -> None:
    """Check that IMAGE, a published folder or the name of an image, boots and does what its recipe promises."""
    from cumulet_qemu.boot import describe
    from cumulet_qemu.checking import check_tally, run_checks
    from cumulet_qemu.published import find_image, load_published
    from cumulet_qemu.rundir import problems

    published = load_published(find_image(image, choices["out"]))
    request = make_request(published, choices)
    for problem in problems(published, request.options):
        raise problem
    say(describe(published, request.options))
    tally = run_checks(request, tell)
    if choices["as_json"]:
        click.echo(json.dumps(make_result(published, tally)))
    check_tally(request, tally)


def make_request(published: Published, choices: Choices) -> Request:
    """What to check, from the command line. Raises UsageError for a size that is wrong."""
    from cumulet_qemu.checking import Request
    from cumulet_qemu.machine import Options
    from cumulet_qemu.published import parse_size

    memory = choices["memory"]
    return Request(
        published=published,
        options=Options(
            firmware=choices["firmware"],
            memory=parse_size(memory, "--memory") if memory else None,
            cpus=choices["cpus"],
            accel=choices["accel"],
        ),
        logs=(choices["logs"] or published.folder.parent / "logs" / published.folder.name).resolve(),
        junit=choices["junit"],
        select=choices["select"],
        time_scale=choices["time_scale"],
    )


def tell(check: Check) -> None:
    """One line per check, and below it why it did not pass."""
    say(f"{check.seconds:8.1f} s  {check.outcome:<7}  {check.name}")
    if check.details:
        say(textwrap.indent(check.details, "            "))


def say(text: str) -> None:
    """A line for people: never on standard output, which belongs to --json."""
    click.echo(text, err=True)


def make_result(published: Published, tally: Tally) -> dict[str, object]:
    """The result of a test run for programs."""
    return {
        "image": published.image,
        **{outcome: tally.count(outcome) for outcome in ("passed", "failed", "skipped")},
        "checks": [dataclasses.asdict(check) for check in tally.checks],
    }
