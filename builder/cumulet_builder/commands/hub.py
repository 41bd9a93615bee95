"""`cumulet hub`: make a Kubernetes the place that sites register at, and decide who may."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from cumulet.central import Kube
    from cumulet.central.hub.records import Cluster

Made = TypeVar("Made")
COLOURS = {
    "ready": "green",
    "pending": "yellow",
    "accepted": "yellow",
    "unwell": "red",
    "silent": "red",
    "beidou": "yellow",
}

config_option = click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    envvar="KUBECONFIG",
    help="Of the hub's administrator. [default: $KUBECONFIG]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


@click.group("hub")
def hub() -> None:
    """The place that sites register at: any Kubernetes, in the protocol of Open Cluster Management.

    \b
    cumulet hub init              make the cluster of a kubeconfig a hub
    cumulet hub run               run its controllers
    cumulet hub token pier-7      let a site in: a token for its site.yaml or agent.yaml
    cumulet hub clusters          who is there, and who wants in
    cumulet hub tasks             what tasks use, and which models they have
    cumulet hub approve pier-7    after comparing the fingerprint of its key
    """


@hub.command()
@config_option
@json_option
def init(kubeconfig: Path | None, as_json: bool) -> None:
    """Make a Kubernetes a hub, or bring a hub up to date. It needs an administrator's kubeconfig."""
    from cumulet.central.hub.install import install
    from cumulet.core.deadline import Deadline

    server = ask(kubeconfig, lambda kube: install(kube, Deadline.after(120)), lambda kube, _: kube.access.server)
    say({"hub": server}, f"{server}: is a hub", as_json)


@hub.command()
@config_option
@click.option("--listen", default="127.0.0.1", help="Address of the entry over HTTP. [default: 127.0.0.1]")
@click.option("--port", default=8443, help="Its port. [default: 8443]")
@click.option("--certificate", type=click.Path(path_type=Path), help="Certificate of the entry.")
@click.option("--key", type=click.Path(path_type=Path), help="Key of the entry.")
@click.option("--allowed", type=click.Path(path_type=Path), help="Devices that need no person: JSON, serial and key.")
@click.option("--sky", type=click.Path(path_type=Path), help="sky.yaml: a Beidou terminal, and the keys of sites.")
@click.option("--traces", default="", metavar="URL", help="An OpenTelemetry collector that gets traces by OTLP.")
def run(kubeconfig: Path | None, **words: Any) -> None:
    """Run the hub's controllers and its entry over HTTP until interrupted."""
    from cumulet.central.hub.service import Settings, serve
    from cumulet.central.page import add_page

    serve(Settings(kubeconfig=kubeconfig, **words), add_page)


@hub.command()
@config_option
@click.argument("cluster", required=False)
@click.option("--any", "anybody", is_flag=True, help="For any cluster, as stock agents want it.")
@click.option("--life", default="24h", help="How long it lets somebody in. [default: 24h]")
@json_option
def token(kubeconfig: Path | None, cluster: str | None, anybody: bool, life: str, as_json: bool) -> None:
    """Make a token that lets CLUSTER register. Once used it is good for the return of that device only."""
    from cumulet.central.agent.config import check_name, parse_seconds
    from cumulet.central.hub.tokens import make_token, publish_token
    from cumulet.core.errors import UsageError

    if bool(cluster) == anybody:
        raise UsageError("for which cluster?", hint="cumulet hub token NAME, or --any")
    try:
        seconds = parse_seconds(life)
        made = make_token(check_name(cluster) if cluster else "")
    except ValueError as error:
        raise UsageError(str(error)) from error
    ask(kubeconfig, lambda kube: publish_token(kube, made, seconds))
    say({"cluster": cluster, "token": made.text, "seconds": seconds}, made.text, as_json)


@hub.command()
@config_option
@json_option
def clusters(kubeconfig: Path | None, as_json: bool) -> None:
    """Show who is there, and who wants in."""
    from cumulet.central.hub.approval import list_clusters

    found = ask(kubeconfig, list_clusters)
    if as_json:
        click.echo(json.dumps([make_row(each) for each in found], indent=1))
        return
    for each in found:
        state = click.style(f"{each.state:<9}", fg=COLOURS.get(each.state))
        amounts = ", ".join(f"{each.capacity[name]} {name}" for name in ("cpu", "memory") if name in each.capacity)
        tier = each.claims.get("tier", "")
        click.echo(f"{each.name:<24} {state} {tier:<9} {each.version:<14} {amounts}".rstrip())


@hub.command()
@config_option
@click.argument("cluster", required=False)
@json_option
def tasks(kubeconfig: Path | None, cluster: str | None, as_json: bool) -> None:
    """Show what tasks use, of all sites or of CLUSTER: replicas, processors, memory, models."""
    from cumulet.central.hub.pulses import list_pulses
    from cumulet.central.page.usage import make_usage
    from cumulet.central.pulse import add_pulses
    from cumulet.core.errors import UsageError

    found = ask(kubeconfig, list_pulses)
    if cluster is not None and cluster not in found:
        raise UsageError(f"{cluster}: has said nothing of its tasks", hint="cumulet hub clusters")
    several = found.values() if cluster is None else [found[cluster]]
    usage = make_usage(add_pulses(several, int(time.time())))
    click.echo(json.dumps(usage, indent=1) if as_json else "\n".join(make_usage_lines(usage)))


@hub.command()
@config_option
@click.argument("cluster")
@click.option("--new-key", is_flag=True, help="The cluster has got another device.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def approve(kubeconfig: Path | None, cluster: str, new_key: bool, yes: bool, as_json: bool) -> None:
    """Let CLUSTER in, after comparing the fingerprint of its key with the device's (cumulet agent key)."""
    from cumulet.central.hub.approval import approve as approve_candidate
    from cumulet.central.hub.approval import find_candidate

    candidate = ask(kubeconfig, lambda kube: find_candidate(kube, cluster))
    if not as_json:
        for key in candidate.keys:
            serials = ", ".join(candidate.serials)
            click.echo(f"{cluster} has the key {key}" + (f", serial number {serials}" if serials else ""), err=True)
    if not yes:
        confirm(f"Let {cluster} in?")
    granted = ask(kubeconfig, lambda kube: approve_candidate(kube, candidate, new_key=new_key))
    say({"cluster": cluster, "granted": granted}, f"{cluster}: is let in ({len(granted)} requests granted)", as_json)


@hub.command()
@config_option
@click.argument("cluster")
@json_option
def reject(kubeconfig: Path | None, cluster: str, as_json: bool) -> None:
    """Do not accept CLUSTER any more: its agent may look at its own entry, and that is all."""
    from cumulet.central.hub.approval import accept, find_candidate

    async def refuse(kube: Kube) -> None:
        await find_candidate(kube, cluster)
        await accept(kube, cluster, False)

    ask(kubeconfig, refuse)
    say({"cluster": cluster}, f"{cluster}: is not accepted any more", as_json)


@hub.command()
@config_option
@click.argument("cluster")
@json_option
def revoke(kubeconfig: Path | None, cluster: str, as_json: bool) -> None:
    """Take away every token of CLUSTER."""
    from cumulet.central.hub.tokens import revoke_cluster

    count = ask(kubeconfig, lambda kube: revoke_cluster(kube, cluster))
    say({"cluster": cluster, "tokens": count}, f"{cluster}: {count} tokens taken away", as_json)


@hub.command()
@config_option
@click.argument("cluster")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def remove(kubeconfig: Path | None, cluster: str, yes: bool, as_json: bool) -> None:
    """Take CLUSTER out, with all the work that it has."""
    from cumulet.central.hub.approval import remove as remove_cluster

    if not yes:
        confirm(f"All work of {cluster} will be taken away. Go on?")
    ask(kubeconfig, lambda kube: remove_cluster(kube, cluster))
    say({"cluster": cluster}, f"{cluster}: goes", as_json)


def ask(
    kubeconfig: Path | None,
    call: Callable[[Kube], Awaitable[Made]],
    then: Callable[[Kube, Made], Any] | None = None,
) -> Any:
    """What a function makes of the hub's API server. Raises UsageError and what the function raises."""
    from cumulet.central import Kube as Client
    from cumulet.central import load_access
    from cumulet.core.errors import UsageError

    if kubeconfig is None:
        raise UsageError("which hub?", hint="--kubeconfig FILE")
    access = load_access(kubeconfig)

    async def work() -> Any:
        kube = Client(access)
        try:
            made = await call(kube)
            return then(kube, made) if then is not None else made
        finally:
            kube.close()

    return asyncio.run(work())


def make_row(cluster: Cluster) -> dict[str, Any]:
    """A cluster for programs."""
    return {
        "cluster": cluster.name,
        "state": cluster.state,
        "version": cluster.version,
        "labels": dict(cluster.labels),
        "claims": dict(cluster.claims),
        "capacity": dict(cluster.capacity),
        "allocatable": dict(cluster.allocatable),
        "conditions": list(cluster.conditions),
    }


def make_usage_lines(usage: dict[str, Any]) -> list[str]:
    """Tasks, then links and the next quiet stretch, for people."""
    lines = []
    for task in usage["tasks"]:
        models = ", ".join(f"{one['model']} at {one['sites']}" for one in task["models"])
        line = f"{task['name']:<32} {task['ready']}/{task['wanted']} ready at {task['sites']} sites"
        line += f", {task['cpu']:.2f} cores, {task['memory'] >> 20} MiB"
        lines.append(line + (f"; {models}" if models else ""))
    words = ("used", "up", "down")
    links = [f"{link['kind']} {', '.join(f'{link[word]} {word}' for word in words)}" for link in usage["links"]]
    if usage["window"]:
        links.append(time.strftime("next quiet stretch %a %H:%M", time.localtime(usage["window"][0])))
    return [*lines, f"{usage['sites']} sites: {'; '.join(links)}" if links else f"{usage['sites']} sites"]


def confirm(question: str) -> None:
    """Ask before something that somebody has to answer for. Raises UsageError without a terminal."""
    import sys

    from cumulet.core.errors import UsageError

    if not sys.stdin.isatty():
        raise UsageError("there is nobody to ask", hint="--yes")
    click.confirm(question, abort=True, err=True)


def say(answer: dict[str, Any], text: str, as_json: bool) -> None:
    """The last words of a command."""
    click.echo(json.dumps(answer) if as_json else text)
