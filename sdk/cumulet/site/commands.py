"""`cumulet site`: bring a site up, look at it, change it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumulet.site.progress import Progress

if TYPE_CHECKING:
    from cumulet.site import Outcome, Site
    from cumulet.site.actions import Plan
    from cumulet.site.status import SiteStatus

COLOURS = {"ready": "green", "not ready": "yellow", "not in": "yellow", "unreachable": "red"}

file_option = click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(path_type=Path),
    default=Path("site.yaml"),
    help="The site. [default: ./site.yaml]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group("site")
def site() -> None:
    """Several devices as one cluster, from one file.

    \b
    cumulet site trust --all      make the devices' host keys known, after looking at them
    cumulet site up --dry-run     what would be done, on which device
    cumulet site up               do it; the same command again goes on, or does nothing
    cumulet site status           what the devices are like
    """


@site.command()
@file_option
@click.option("--dry-run", is_flag=True, help="Only show what would be done, on which device.")
@json_option
def up(path: Path, dry_run: bool, as_json: bool) -> None:
    """Bring the site to what its document says."""
    found = load(path)
    if dry_run:
        show_plan(found.plan(), as_json)
        return
    with Progress(quiet=as_json) as progress:
        outcome = found.up(progress.event)
    done = f"{found.document.site}: up" if outcome.changed else f"{found.document.site}: nothing to do"
    finish(found, outcome, done, as_json)


@site.command()
@file_option
@json_option
def status(path: Path, as_json: bool) -> None:
    """Show what the devices are like. Ends with code 4 if something is not as it should be."""
    from cumulet.core.errors import TargetError

    found = load(path).status()
    if as_json:
        click.echo(json.dumps({**asdict(found), "healthy": found.healthy}, indent=1))
    else:
        show_status(found)
    if not found.healthy:
        bad = ", ".join(node.name for node in found.nodes if node.state != "ready") or "no API server answers"
        raise TargetError(f"{found.site}: not as it should be: {bad}", hint="cumulet site up")


@site.command()
@file_option
@click.argument("nodes", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every device whose key is not known yet.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def trust(path: Path, nodes: tuple[str, ...], every: bool, yes: bool) -> None:
    """Make the host keys of NODES known, once a person has compared their fingerprints."""
    from cumulet.core.errors import UsageError
    from cumulet.site.trust import find_unknown, trust_key

    found = load(path)
    if not nodes and not every:
        raise UsageError("which devices?", hint="cumulet site trust NODE..., or --all")
    for key in find_unknown(found, nodes):
        click.echo(f"{key.node} ({key.address}) shows {key.fingerprint}")
        if yes or click.confirm("Is that the fingerprint on the device?", err=True):
            trust_key(found, key)


@site.command()
@file_option
@click.argument("name")
@click.argument("address")
@json_option
def add(path: Path, name: str, address: str, as_json: bool) -> None:
    """Write the worker NAME at ADDRESS into the document and bring it in."""
    from cumulet.site.membership import add as add_node
    from cumulet.site.model import SiteNode

    with Progress(quiet=as_json) as progress:
        outcome = add_node(path, SiteNode.model_construct(name=name, address=address, role="worker"), progress.event)
    finish(load(path), outcome, f"{name}: is in", as_json)


@site.command()
@file_option
@click.argument("name")
@json_option
def remove(path: Path, name: str, as_json: bool) -> None:
    """Take the worker NAME out: drained first, cleared last, then taken out of the document."""
    from cumulet.site.membership import remove as remove_node

    found = load(path)
    with Progress(quiet=as_json) as progress:
        outcome = remove_node(path, name, progress.event)
    finish(found, outcome, f"{name}: is out", as_json)


@site.command()
@file_option
@click.argument("what", type=click.Choice(["control"]))
@click.option(
    "--witness", metavar="WORKER", help="The worker that becomes the third vote. [default: the last that is Ready]"
)
@json_option
def promote(path: Path, what: str, witness: str | None, as_json: bool) -> None:
    """A server is gone for good: the control node takes its place, and a worker becomes the third vote."""
    from cumulet.site.membership import promote as promote_control

    with Progress(quiet=as_json) as progress:
        outcome = promote_control(path, witness, progress.event)
    found = load(path)
    roles = ", ".join(f"{node.name} {node.role}" for node in found.document.servers)
    finish(found, outcome, f"{found.document.site}: {roles}", as_json)


@site.command()
@file_option
@click.argument("target", type=click.Path(path_type=Path))
@json_option
def snapshot(path: Path, target: Path, as_json: bool) -> None:
    """Save what the cluster keeps, and its authority, into the file TARGET. Keep it as you keep a key."""
    found = load(path)
    with Progress(quiet=as_json) as progress:
        outcome = found.snapshot(target, progress.event)
    finish(found, outcome, f"{target}: {target.stat().st_size} bytes; whoever has it owns the site", as_json)


@site.command()
@file_option
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def restore(path: Path, source: Path, yes: bool, as_json: bool) -> None:
    """Begin again from the snapshot SOURCE: what the cluster has kept since then is lost."""
    found = load(path)
    ask(f"Everything that {found.document.site} has kept since this snapshot will be lost. Go on?", yes)
    with Progress(quiet=as_json) as progress:
        found.restore(source, progress.event)
        outcome = found.up(progress.event)
    finish(found, outcome, f"{found.document.site}: restored", as_json)


@site.command()
@file_option
@json_option
def rotate(path: Path, as_json: bool) -> None:
    """New certificates and kubeconfigs everywhere, one device after the other; every token is taken away."""
    found = load(path)
    with Progress(quiet=as_json) as progress:
        outcome = found.rotate(progress.event)
    finish(found, outcome, f"{found.document.site}: new certificates", as_json)


@site.command()
@file_option
@click.option(
    "--programs", type=click.Path(path_type=Path, exists=True, file_okay=False), required=True,
    help="Folder with the new programs, as the image has them: kube, etcd, containerd, ..., or k3s.",
)  # fmt: skip
@click.option("--at-once", type=click.IntRange(1), default=1, help="Workers at the same time. [default: 1]")
@json_option
def upgrade(path: Path, programs: Path, at_once: int, as_json: bool) -> None:
    """Run other versions of the programs: a server at a time, then the workers; stops at the first unhealthy one."""
    found = load(path)
    with Progress(quiet=as_json) as progress:
        outcome = found.upgrade(programs, at_once, progress.event)
    finish(found, outcome, f"{found.document.site}: upgraded", as_json)


@site.command()
@file_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def reset(path: Path, yes: bool, as_json: bool) -> None:
    """Make every device as it was before it joined. The cluster and all that it has kept are gone then."""
    found = load(path)
    ask(f"All that {found.document.site} has kept will be lost. Go on?", yes)
    with Progress(quiet=as_json) as progress:
        outcome = found.reset((), progress.event)
    finish(found, outcome, f"{found.document.site}: no cluster any more", as_json)


def load(path: Path) -> Site:
    """The site in a file."""
    from cumulet.site import Site

    return Site.load(path)


def ask(question: str, yes: bool) -> None:
    """Ask before something that cannot be undone. Raises UsageError without a terminal and without --yes."""
    import sys

    from cumulet.core.errors import UsageError

    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError("this cannot be undone, and there is nobody to ask", hint="--yes")
    click.confirm(question, abort=True, err=True)


def finish(found: Site, outcome: Outcome, text: str, as_json: bool) -> None:
    """The last words of a command: a line, or the record as JSON."""
    if as_json:
        click.echo(json.dumps({"site": found.document.site, **asdict(outcome)}, indent=1))
        return
    record = f"; record: {found.record_path.name}" if outcome.steps else ""
    click.echo(f"{text} ({outcome.seconds:.1f} s{record})")


def show_plan(plan: Plan, as_json: bool) -> None:
    """Print what would be done: phases, steps with their reason, every action."""
    from cumulet.site.actions import describe

    if as_json:
        click.echo(json.dumps([make_phase(phase) for phase in plan], indent=1))
        return
    if not plan:
        click.echo("nothing to do")
    for phase in plan:
        side = f", {phase.at_once} devices side by side" if phase.at_once > 1 else ""
        side += f", beside {', '.join(phase.beside)}" if phase.beside else ""
        click.echo(click.style(f"{phase.name}: {phase.title}{side}", bold=True))
        for step in phase.steps:
            click.echo(f"  {step.host}: {step.title} ({step.why})")
            for action in step.actions:
                click.echo(f"      {describe(action)}")


def make_phase(phase: Any) -> dict[str, object]:
    """A phase for programs."""
    from cumulet.site.actions import describe

    steps = [
        {
            "step": step.name,
            "host": step.host,
            "title": step.title,
            "why": step.why,
            "actions": [describe(action) for action in step.actions],
        }
        for step in phase.steps
    ]
    told = {"phase": phase.name, "title": phase.title, "at_once": phase.at_once, "beside": list(phase.beside)}
    return {**told, "steps": steps}


def show_status(found: SiteStatus) -> None:
    """Print every device as a line, and what the vote can stand."""
    for node in found.nodes:
        state = click.style(f"{node.state:<11}", fg=COLOURS[node.state])
        vote = "" if node.vote == "none" else node.vote
        line = f"{node.name:<10} {node.address:<15} {node.role:<8} {state} {vote:<8} {node.version:<16} {node.text}"
        click.echo(line.rstrip())
    servers = "no server may be lost" if found.spare == 0 else f"{found.spare} server may be lost"
    click.echo(f"API server {'answers' if found.api else 'does not answer'}; {servers}")
