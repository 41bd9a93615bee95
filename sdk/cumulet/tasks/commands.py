"""`cumulet task`: which tasks share a node, which have one to themselves, what a task needs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumulet.core.options import (
    engine_option,
    json_option,
    keep_option,
    kubeconfig_option,
    namespace_option,
    site_option,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cumulet.packing import Decision, Plan, Room
    from cumulet.tasks import EdgeProfile, Measured, TaskProfile

COLOURS = {"shares": "green", "own": "cyan", "super": "blue", "waits": "yellow", "refused": "red"}

edge_option = click.option(
    "--edge",
    "edge_path",
    type=click.Path(path_type=Path),
    default=Path("edge.yaml"),
    help="Profile of the edge, as `cumulet task edge` writes it. [default: ./edge.yaml]",
)
percent = click.IntRange(1, 100)


@click.group("task")
def task() -> None:
    """AI tasks: what they need, and on which nodes they go.

    \b
    cumulet task edge > edge.yaml                 what a site has, and what of it is taken
    cumulet task profile IMAGE --name detect --node p4    what a task needs, measured
    cumulet task plan detect.yaml speech.yaml     who shares a node, and why
    cumulet task run detect.yaml speech.yaml      start them, and see whether it came out so
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
def plan(paths: tuple[Path, ...], edge_path: Path, as_json: bool, **choices: Any) -> None:
    """Show where the tasks of the documents TASK... belong, and why. Ends with code 4 if one has no place."""
    from cumulet.core.errors import TargetError
    from cumulet.packing import Limits, find_standard, make_plan
    from cumulet.tasks import imagine, load_edge, load_profile, make_needs

    edge = load_edge(edge_path)
    profiles = check_names([load_profile(path) for path in paths])
    rooms: Sequence[Room] = imagine(edge, choices["nodes"]) if choices["nodes"] else edge.rooms
    limits = Limits(choices["cpu"], choices["gpu"], choices["full"])
    found = make_plan(make_needs(profiles, find_standard(rooms), choices["times"]), rooms, limits)
    show_plan(found, edge, as_json)
    if found.waiting:
        first = found.waiting[0]
        more = f", and {len(found.waiting) - 1} more" if len(found.waiting) > 1 else ""
        raise TargetError(f"{first.need.name} has no place: {first.reason}{more}", hint="more nodes, or smaller tasks")


@task.command()
@site_option
@kubeconfig_option
@json_option
def edge(site_path: Path, kubeconfig: Path | None, as_json: bool) -> None:
    """Print the profile of a live edge: its nodes, what they have, what of it is taken, how busy they are."""
    import asyncio

    from cumulet.tasks import reach, read_edge, write_edge

    async def look() -> EdgeProfile:
        async with reach(site_path, kubeconfig) as reached:
            return await read_edge(reached.api, reached.name)

    found = asyncio.run(look())
    click.echo(found.model_dump_json(indent=1) if as_json else write_edge(found), nl=as_json)


@task.command()
@click.argument("image")
@click.option("--name", help="What the task is called. [default: that of --into]")
@click.option("--node", required=True, help="Where it is run and watched; nothing else should be busy there.")
@click.option("--seconds", type=click.IntRange(5, 86400), default=60, help="How long it is watched. [default: 60]")
@click.option(
    "--into", type=click.Path(path_type=Path), help="The task's document: what was measured is written into it."
)
@click.argument("command", nargs=-1)
@site_option
@kubeconfig_option
def profile(image: str, command: tuple[str, ...], site_path: Path, kubeconfig: Path | None, **choices: Any) -> None:
    """Run IMAGE on one node, with COMMAND or its own, and measure what it needs: CPU, memory, GPU.

    Prints the document, or corrects the one that --into names.
    """
    import asyncio

    from cumulet.core.files import write_text
    from cumulet.tasks import correct, describe_correction, measure, reach, write_profile

    declared = make_declared(image, command, choices["name"], choices["into"])

    async def watch() -> Measured:
        async with reach(site_path, kubeconfig) as reached:
            device = reached.device(choices["node"])

            async def run(argv: Sequence[str], text: str, seconds: float) -> str:
                return (await device.run(argv, input=text, seconds=seconds)).out

            return await measure(reached.api, run, declared, choices["node"], choices["seconds"])

    measured = asyncio.run(watch())
    text = write_profile(correct(declared, measured))
    if choices["into"] is None:
        click.echo(text, nl=False)
        return
    write_text(choices["into"], text)
    for line in describe_correction(declared, measured) or ["as declared"]:
        click.echo(line)


@task.command()
@click.argument("paths", metavar="TASK...", nargs=-1, required=True, type=click.Path(path_type=Path))
@engine_option
@keep_option
@namespace_option
@site_option
@kubeconfig_option
def run(paths: tuple[Path, ...], namespace: str, site_path: Path, kubeconfig: Path | None, **choices: str) -> None:
    """Start the tasks of the documents TASK... in the order of their plan. Code 4 if it did not come out as planned.

    One that is more than a node becomes a super container; `cumulet super result` fetches its result.
    """
    import asyncio

    from cumulet.core.errors import TargetError
    from cumulet.supercontainer import Controller
    from cumulet.tasks import Submitted, load_profile, reach, submit

    profiles = check_names([load_profile(path) for path in paths])

    async def start() -> Submitted:
        async with reach(site_path, kubeconfig) as reached:
            controller = Controller(reached.api, namespace, lambda text: click.echo(text, err=True))

            async def spread(profile: TaskProfile, decision: Decision) -> None:
                await controller.start(profile, decision, wait=120.0, **choices)

            return await submit(reached.api, profiles, namespace=namespace, spread=spread)

    done = asyncio.run(start())
    for name, node in done.places.items():
        click.echo(f"{name:<20} {node}")
    show_super(done.plan)
    if done.differences:
        raise TargetError("; ".join(done.differences), hint="other containers came between: cumulet task plan")


def make_declared(image: str, command: tuple[str, ...], name: str | None, into: Path | None) -> TaskProfile:
    """What is declared of a task so far: by its document if there is one, by these words if not. Raises UsageError."""
    from cumulet.core.errors import UsageError
    from cumulet.tasks import load_profile, make_profile

    if into is not None and into.exists():
        return load_profile(into).model_copy(update={"image": image, **({"command": command} if command else {})})
    if name is None:
        raise UsageError("what is the task called?", hint="--name NAME, or --into with its document")
    return make_profile(name, image, command)


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
    show_super(found)
    fewest = "no way needs fewer" if found.busy == found.bound else f"no way needs fewer than {found.bound}"
    fewest = "not everything has a place" if found.waiting else fewest
    click.echo(f"{edge.edge}: {found.busy} of {len(found.rooms)} nodes have a task; {fewest}")


def show_super(found: Plan) -> None:
    """Print how the result of each super container of a plan is fetched."""
    for each in found.decisions:
        if each.kind == "super":
            members = f"a super container of {len(each.nodes)} members"
            fetch = f"cumulet super result {each.need.name} --out FILE --wait SECONDS"
            click.echo(f"{each.need.name}: {members}, `{fetch}` fetches its result")
