"""`cumulet task`: which tasks share a node, which have one to themselves, what a task needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cumulet.packing import Plan, Room
    from cumulet.tasks import EdgeProfile, TaskProfile

COLOURS = {"shares": "green", "own": "cyan", "super": "blue", "waits": "yellow", "refused": "red"}

edge_option = click.option(
    "--edge",
    "edge_path",
    type=click.Path(path_type=Path),
    default=Path("edge.yaml"),
    help="Profile of the edge, as `cumulet task edge` writes it. [default: ./edge.yaml]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
percent = click.IntRange(1, 100)


@click.group("task")
def task() -> None:
    """AI tasks: what they need, and on which nodes they go.

    \b
    cumulet task plan detect.yaml speech.yaml     who shares a node, and why
    cumulet task plan *.yaml --nodes 1000 --times 500     what if there were many
    """


@task.command()
@click.argument("paths", metavar="TASK...", nargs=-1, required=True, type=click.Path(path_type=Path))
@edge_option
@click.option("--nodes", type=click.IntRange(1, 100000), help="As if the edge had so many nodes, all of them idle.")
@click.option("--times", type=click.IntRange(1, 100000), default=1, help="As if each task was there so many times.")
@click.option("--cpu", type=percent, default=20, help="Tasks under this percent of a CPU share. [default: 20]")
@click.option("--gpu", type=percent, default=20, help="The same for the GPU. [default: 20]")
@click.option("--full", type=percent, default=100, help="How full shared nodes may be. [default: 100]")
@json_option
def plan(paths: tuple[Path, ...], edge_path: Path, as_json: bool, **choices: int | None) -> None:
    """Show where the tasks of the documents TASK... belong, and why. Ends with code 4 if one has no place."""
    from cumulet.core.errors import TargetError
    from cumulet.packing import Limits, find_standard, make_plan
    from cumulet.tasks import imagine, load_edge, load_profile, make_needs

    edge = load_edge(edge_path)
    profiles = check_names([load_profile(path) for path in paths])
    rooms: Sequence[Room] = imagine(edge, choices["nodes"]) if choices["nodes"] else edge.rooms
    limits = Limits(choices["cpu"] or 20, choices["gpu"] or 20, choices["full"] or 100)
    found = make_plan(make_needs(profiles, find_standard(rooms), choices["times"] or 1), rooms, limits)
    show_plan(found, edge, as_json)
    if found.waiting:
        first = found.waiting[0]
        more = f", and {len(found.waiting) - 1} more" if len(found.waiting) > 1 else ""
        raise TargetError(f"{first.need.name} has no place: {first.reason}{more}", hint="more nodes, or smaller tasks")


def check_names(profiles: list[TaskProfile]) -> list[TaskProfile]:
    """The profiles themselves. Raises UsageError if two are of the same task."""
    from cumulet.core.errors import UsageError

    names = [profile.task for profile in profiles]
    twice = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if twice is not None:
        raise UsageError(f"task {twice!r} is in two documents", hint="give each task a name of its own")
    return profiles


def show_plan(found: Plan, edge: EdgeProfile, as_json: bool) -> None:
    """Print every decision, and how many nodes have a task then."""
    if as_json:
        decisions = [
            {
                "container": each.need.name,
                "kind": each.kind,
                "nodes": each.nodes,
                "asks": {"cpu": each.asks.cpu, "gpu": each.asks.gpu, "memory": each.asks.memory},
                "reason": each.reason,
            }
            for each in found.decisions
        ]
        summary = {"edge": edge.edge, "nodes": len(found.rooms), "busy": found.busy, "bound": found.bound}
        click.echo(json.dumps({**summary, "decisions": decisions}, indent=1))
        return
    for each in found.decisions:
        kind = click.style(f"{each.kind:<8}", fg=COLOURS[each.kind])
        click.echo(f"{each.need.name:<20} {kind} {each.reason}")
    fewest = "no way needs fewer" if found.busy == found.bound else f"no way needs fewer than {found.bound}"
    fewest = "not everything has a place" if found.waiting else fewest
    click.echo(f"{edge.edge}: {found.busy} of {len(found.rooms)} nodes have a task; {fewest}")
