"""`cumulet deploy`: a task from the centre to the sites that are right for it, and what comes back from there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumulet_builder.commands.hub import ask, config_option, confirm, json_option, say

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx

    from cumulet.central import DeploymentStatus, Kube
    from cumulet.packing import Amounts

COLOURS = {"Failed": "red", "Refused": "red", "Waiting": "yellow", "Sent": "yellow", "Starting": "yellow"}


class TaskFirst(click.Group):
    """A group whose first word may be a document: `cumulet deploy x.yaml` is `cumulet deploy task x.yaml`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Like click's, with the word that was left out."""
        if args and args[0] not in self.commands and args[0] not in ctx.help_option_names:
            args = ["task", *args]
        return super().parse_args(ctx, args)


@click.group("deploy", cls=TaskFirst)
def deploy() -> None:
    """Tasks from the centre to its sites, through all tiers.

    \b
    cumulet deploy detect.yaml --to tier=edge,gpu=adreno-630    have it at every site that is so
    cumulet deploy status detect                  how it is, by site and node
    cumulet deploy results detect --to folder     what the sites have found out
    cumulet deploy remove detect                  take it away everywhere
    cumulet deploy prepare -f site.yaml           let a site take tasks from the centre
    """


@deploy.command()
@click.argument("path", metavar="TASK", type=click.Path(path_type=Path))
@click.option("--to", "claims", default="", help="Claims that a site must have: tier=edge,gpu=adreno-630")
@click.option("--labels", default="", help="Labels that the hub has given to it: place=harbour")
@click.option("--sites", type=click.IntRange(1, 100000), help="So many of the sites that match. [default: all]")
@click.option("--node", help="Size of the sites' usual node, of which percents are: 8,6GiB")
@click.option(
    "--training", type=click.Path(path_type=Path), help="A job (a task with `runs: once`) that makes the model here."
)
@click.option("--package", type=click.Path(path_type=Path), help="A job that makes a model of what --training says.")
@click.option("--wait", default="0s", help="Until it runs at every site, and for the jobs before. [default: 0s]")
@config_option
@json_option
def task(path: Path, kubeconfig: Path | None, as_json: bool, **choices: Any) -> None:
    """Have the task of the document TASK at the sites that match, or bring it there to what the document says now.

    The same command again goes on, or changes nothing. Code 4 if --wait was not enough.
    """
    from cumulet.central import Trained, Where, deploy_task, read_deployment, train
    from cumulet.core.deadline import Deadline
    from cumulet.tasks import load_profile

    profile, standard = load_profile(path), read_node(choices["node"])
    jobs = [load_profile(each) for each in (choices["training"], choices["package"]) if each is not None]
    where = Where(read_pairs(choices["claims"], "--to"), read_pairs(choices["labels"], "--labels"), choices["sites"])
    deadline = Deadline.after(read_seconds(choices["wait"]))

    def tell(text: str) -> None:
        click.echo(text, err=True)

    async def work(kube: Kube) -> tuple[bool, DeploymentStatus]:
        made = await train(kube, profile, jobs, deadline, tell) if jobs else Trained(profile, "")
        notes = {"cumulet.io/trained-by": made.job} if made.job else {}
        changed = await deploy_task(kube, made.profile, where, standard=standard, notes=notes)
        if deadline.left:
            return changed, await settle(kube, profile.task, deadline)
        return changed, await read_deployment(kube, profile.task)

    changed, status = ask(kubeconfig, work)
    if as_json:
        click.echo(json.dumps({**status.as_json(), "changed": changed}, indent=1))
        return
    click.echo(f"{profile.task}: {'is sent' if changed else 'is there already'}, {describe(status)}")


async def settle(kube: Kube, name: str, deadline: Any) -> DeploymentStatus:
    """The status once it runs everywhere. Raises TargetError with how it is when the time is over."""
    import asyncio

    from cumulet.central import read_deployment
    from cumulet.core.errors import TargetError

    while True:
        status = await read_deployment(kube, name)
        if status.settled:
            return status
        if deadline.passed:
            raise TargetError(
                f"{name}: after {deadline.seconds:.0f} s {describe(status)}", hint=f"cumulet deploy status {name}"
            )
        await asyncio.sleep(1.0)


@deploy.command()
@click.argument("name", required=False)
@config_option
@json_option
def status(name: str | None, kubeconfig: Path | None, as_json: bool) -> None:
    """Show how the deployment NAME is at every site, on every node; without NAME, all deployments in a line each."""
    from cumulet.central import list_deployments, read_deployment

    if name is None:
        found = ask(kubeconfig, list_deployments)
        if as_json:
            click.echo(json.dumps([each.as_json() for each in found], indent=1))
            return
        for each in found:
            click.echo(f"{each.name:<24} {describe(each)}")
        return
    one = ask(kubeconfig, lambda kube: read_deployment(kube, name))
    if as_json:
        click.echo(json.dumps(one.as_json(), indent=1))
        return
    show(one)


@deploy.command()
@click.argument("name")
@click.option(
    "--to", "folder", type=click.Path(path_type=Path), required=True, help="Each site's go to a folder there."
)
@click.option("--from", "url", envvar="CUMULET_RESULTS", help="The top's entry of results: https://centre:8444")
@click.option("--take", is_flag=True, help="The top gives the room back for what has been fetched.")
@config_option
@json_option
def results(name: str, kubeconfig: Path | None, as_json: bool, **choices: Any) -> None:
    """Fetch what the sites have found out for the deployment NAME, as far as it has arrived at the top.

    What is in the folder already is not fetched again. One shows the certificate of the kubeconfig, whose name the top
    must have as `--reader`.
    """
    from cumulet.core.errors import UsageError
    from cumulet.spool import fetch_results

    folder, url = choices["folder"], choices["url"]
    if not url:
        raise UsageError("where do results arrive?", hint="--from https://centre:8444")
    with open_client(url, kubeconfig) as client:
        found = list(fetch_results(client, url, name, folder, take=choices["take"]))
    if as_json:
        rows = [
            {
                "site": each.entry.origin,
                "id": each.entry.id,
                "path": str(each.path),
                "new": each.new,
                "size": each.entry.size,
            }
            for each in found
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    for each in found:
        if each.new:
            click.echo(f"{each.entry.origin:<24} {each.entry.size:>10}  {each.path}")
    new = sum(each.new for each in found)
    click.echo(f"{name}: {len(found)} results from {len({each.entry.origin for each in found})} sites, {new} new")


def open_client(url: str, kubeconfig: Path | None) -> httpx.Client:
    """A client that shows the kubeconfig's certificate to an entry of results. Raises UsageError."""
    import httpx

    from cumulet.central import load_access
    from cumulet.central.access import make_context
    from cumulet.core.errors import UsageError

    if not url.startswith("https://"):
        return httpx.Client(timeout=30)
    if kubeconfig is None:
        raise UsageError("who are you to the top?", hint="--kubeconfig FILE, with a client certificate")
    return httpx.Client(verify=make_context(load_access(kubeconfig)), timeout=30)


@deploy.command()
@click.argument("name")
@click.option("--wait", default="0s", help="Until every cluster of this hub has taken it away. [default: 0s]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def remove(name: str, wait: str, yes: bool, kubeconfig: Path | None, as_json: bool) -> None:
    """Take the deployment NAME away everywhere. Its results stay."""
    from cumulet.central import remove_deployment, wait_until_gone
    from cumulet.core.deadline import Deadline

    if not yes:
        confirm(f"Take {name} away from all sites?")
    deadline = Deadline.after(read_seconds(wait))

    async def work(kube: Kube) -> bool:
        there = await remove_deployment(kube, name)
        if deadline.left:
            await wait_until_gone(kube, name, deadline)
        return there

    there = ask(kubeconfig, work)
    say({"deployment": name, "removed": there}, f"{name}: {'goes' if there else 'is not there'}", as_json)


@deploy.command()
@click.option(
    "-f", "--file", "site_path", type=click.Path(path_type=Path), default=Path("site.yaml"),
    help="The site. [default: ./site.yaml]",
)  # fmt: skip
def prepare(site_path: Path) -> None:
    """Start the dispatcher on a site's control node; done already, it changes nothing."""
    import asyncio

    from cumulet.dispatch import install
    from cumulet.monitor import BALANCER
    from cumulet.site import Site
    from cumulet.tasks import reach

    document = Site.load(site_path).document
    server = BALANCER if document.cluster.balanced else f"https://{document.masters[0].address}:6443"

    async def act() -> bool:
        async with reach(site_path) as reached:
            device = reached.device(reached.control)
            return await install(reached.api, device, reached.name, server, click.echo)

    changed = asyncio.run(act())
    click.echo(f"{document.site}: {'takes tasks from the centre now' if changed else 'takes tasks from the centre'}")


def show(one: DeploymentStatus) -> None:
    """A deployment for people: one line for all, one for each site, what is wrong behind it."""
    click.echo(f"{one.name}: {describe(one)}")
    for text in (one.model and f"model {one.model}", one.needs and f"needs {join(one.needs)}"):
        if text:
            click.echo(f"  {text}")
    for site, each in one.sites.items():
        phase = click.style(f"{each.phase:<9}", fg=COLOURS.get(each.phase, "green"))
        places = " ".join(f"{node}={text}" for node, text in each.places.items())
        words = [places, each.message, "(out of touch since)" if each.silent else ""]
        click.echo(f"  {site:<32} {phase} {each.ready}/{each.wanted} {'  '.join(filter(None, words))}".rstrip())
    if one.left_out:
        click.echo(f"  and {one.left_out} more")


def describe(one: DeploymentStatus) -> str:
    """All sites together, in a few words."""
    counts = ", ".join(f"{count} {phase}" for phase, count in one.counts.items())
    words = [counts or "at no site yet", "is being taken away" if one.deleting else "", one.problem]
    return "; ".join(filter(None, words))


def join(amounts: Mapping[str, str]) -> str:
    """`400m cpu, 1Gi memory`."""
    return ", ".join(f"{amount} {name}" for name, amount in amounts.items())


def read_pairs(text: str, option: str) -> dict[str, str]:
    """`tier=edge,gpu=adreno-630`. Raises UsageError."""
    from cumulet.central.selectors import parse_pairs
    from cumulet.core.errors import UsageError

    try:
        return parse_pairs(text)
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from error


def read_seconds(text: str) -> int:
    """`10m`. Raises UsageError."""
    from cumulet.core.errors import UsageError
    from cumulet.core.quantities import parse_seconds

    try:
        return parse_seconds(text)
    except ValueError as error:
        raise UsageError(f"--wait: {error}") from error


def read_node(text: str | None) -> Amounts | None:
    """`8,6GiB`: processors and memory of a node. Raises UsageError."""
    from cumulet.core.errors import UsageError
    from cumulet.core.quantities import parse_size
    from cumulet.packing import Amounts

    if text is None:
        return None
    cpus, _, memory = text.partition(",")
    try:
        return Amounts(round(float(cpus) * 1000), 100, parse_size(memory))
    except ValueError:
        raise UsageError(f"--node: {text!r} is not a size of node", hint="write it like 8,6GiB") from None
