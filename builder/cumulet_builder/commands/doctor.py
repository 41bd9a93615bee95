"""`cumulet doctor`: what this computer lacks, and the one command that fixes it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cumulet_builder.doctor import Finding, Purpose


@click.command("doctor")
@click.option(
    "--for",
    "purpose",
    type=click.Choice(["build", "boot", "check"]),
    help="Look only for what this needs. [default: build and boot]",
)
@click.option("--cache", type=click.Path(path_type=Path), help="The cache that builds will use (~/.cache/cumulet).")
@click.option("--fix", is_flag=True, help="Install the Debian packages that are missing; needs root.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(purpose: Purpose | None, cache: Path | None, fix: bool, as_json: bool) -> None:
    """Tell what this computer lacks. Ends with code 3 if something needed is missing."""
    from cumulet.core.errors import ToolError
    from cumulet_builder.doctor import evaluate, install, make_fix, missing, probe

    purposes: tuple[Purpose, ...] = (purpose,) if purpose else ("build", "boot")
    findings = evaluate(probe(cache), purposes)
    if fix and install(findings):
        findings = evaluate(probe(cache), purposes)
    if as_json:
        click.echo(
            json.dumps({"fine": not missing(findings), "findings": [asdict(each) for each in findings]}, indent=1)
        )
    else:
        show(findings)
    lacking = missing(findings)
    if lacking:
        names = ", ".join(each.name for each in lacking)
        raise ToolError(f"this computer lacks: {names}", hint=make_fix(findings))


def show(findings: list[Finding]) -> None:
    """Print the findings as lines, each with its fix below it."""
    width = max(len(each.name) for each in findings)
    colours = {"fine": "green", "missing": "red", "note": "yellow"}
    for each in findings:
        mark = click.style(f"{each.state:<8}", fg=colours[each.state])
        click.echo(f"{mark} {each.name:<{width}}  {each.message}")
        if each.fix and each.state != "fine":
            click.echo(f"{'':<9}{'':<{width}}  {each.fix}")
