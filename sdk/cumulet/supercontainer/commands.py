"""`cumulet super`: a task on several whole nodes, and its one result."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

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
    from cumulet.supercontainer import Controller, Fetched, SuperStatus

T = TypeVar("T")
out_option = click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The file that the result is put into."
)


@click.group("super")
def command() -> None:
    """Super containers: a task that is more than one node can carry, on several whole nodes.

    \b
    cumulet super run huge.yaml --out result      start it when there are nodes, follow it, fetch its result
    cumulet super status huge                     where its members are, what is missing
    cumulet super result huge --out result        fetch the result of one that nobody follows
    """


@command.command()
@click.argument("path", metavar="TASK", type=click.Path(path_type=Path))
@out_option
@engine_option
@keep_option
@click.option("--wait", type=click.IntRange(0, 604800), default=600, help="Seconds to wait for nodes. [default: 600]")
@namespace_option
@site_option
@kubeconfig_option
@json_option
def run(path: Path, out: Path, as_json: bool, site_path: Path, kubeconfig: Path | None, **choices: Any) -> None:
    """Start the task of the document TASK once enough whole nodes are free, and fetch its result.

    If it runs already, it is gone on with.
    """
    from cumulet.tasks import load_profile

    profile = load_profile(path)

    async def go(controller: Controller) -> Fetched:
        more = {"engine": choices["engine"], "keep": choices["keep"]}
        return await controller.run(profile, out, wait=choices["wait"], **more)

    show_result(reached(go, site_path, kubeconfig, choices["namespace"], as_json), as_json)


@command.command()
@click.argument("name")
@namespace_option
@site_option
@kubeconfig_option
@json_option
def status(name: str, namespace: str, site_path: Path, kubeconfig: Path | None, as_json: bool) -> None:
    """Show how far the super container NAME is, and where its members are."""
    from cumulet.supercontainer import describe

    async def look(controller: Controller) -> SuperStatus:
        return await controller.status(name)

    found = reached(look, site_path, kubeconfig, namespace, as_json)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
        return
    click.echo(describe(found))
    for each in found.members:
        line = f"  {each.index:<4} {each.phase:<12} {each.node or '-':<12} attempt {each.attempt}  {each.message}"
        click.echo(line.rstrip())


@command.command()
@click.argument("name")
@out_option
@click.option("--wait", type=click.IntRange(0, 604800), default=0, help="Seconds to wait for it. [default: 0]")
@namespace_option
@site_option
@kubeconfig_option
@json_option
def result(name: str, out: Path, site_path: Path, kubeconfig: Path | None, **choices: Any) -> None:
    """Fetch the result of the super container NAME, and let its members end."""
    from cumulet.core.deadline import Deadline

    async def fetch(controller: Controller) -> Fetched:
        status = await controller.status(name)
        if status.result is None and choices["wait"]:
            status = await controller.follow(name, Deadline.after(choices["wait"]))
        fetched = await controller.fetch(name, status, out)
        await controller.remove(name)
        return fetched

    as_json = choices["as_json"]
    show_result(reached(fetch, site_path, kubeconfig, choices["namespace"], as_json), as_json)


def reached(
    act: Callable[[Controller], Awaitable[T]], site_path: Path, kubeconfig: Path | None, namespace: str, quiet: bool
) -> T:
    """What `act` gives back, with a controller for the cluster that is named."""
    import asyncio

    from cumulet.supercontainer import Controller
    from cumulet.tasks import reach

    async def go() -> T:
        async with reach(site_path, kubeconfig) as found:
            listen = (lambda text: None) if quiet else (lambda text: click.echo(text, err=True))
            return await act(Controller(found.api, namespace, listen))

    return asyncio.run(go())


def show_result(fetched: Fetched, as_json: bool) -> None:
    """Print what came."""
    if as_json:
        click.echo(json.dumps({**asdict(fetched), "path": str(fetched.path)}, indent=1))
        return
    shape = f" {tuple(fetched.meta['shape'])} of {fetched.meta['dtype']}" if fetched.meta["kind"] == "array" else ""
    click.echo(f"{fetched.path}: {fetched.meta['kind']}{shape}, {fetched.size} bytes, sha256 {fetched.sha256}")
