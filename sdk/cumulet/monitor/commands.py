"""`cumulet load`: how busy a site has been, and when it will be quietest."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path

import click

from cumulet.core.options import json_option, kubeconfig_option, site_option

ring_option = click.option(
    "--ring", type=click.Path(path_type=Path, exists=True), help="A ring file. [default: the control node's]"
)


@click.group("load")
def load() -> None:
    """How busy a site has been, and when it will be quietest.

    \b
    cumulet load install           record it on the control node, from now on
    cumulet load show              the last day, hour by hour
    cumulet load window --for 30m  the quietest half hour of the coming week
    """


@load.command()
@site_option
@kubeconfig_option
def install(site_path: Path, kubeconfig: Path | None) -> None:
    """Start the recorder on the site's control node; done already, it changes nothing."""
    import asyncio

    from cumulet.monitor import BALANCER
    from cumulet.monitor import install as install_recorder
    from cumulet.site import Site
    from cumulet.tasks import reach

    document = Site.load(site_path).document
    server = BALANCER if document.cluster.balanced else f"https://{document.masters[0].address}:6443"

    async def act() -> bool:
        async with reach(site_path, kubeconfig) as reached:
            device = reached.device(reached.control)
            return await install_recorder(reached.api, device, reached.name, server, click.echo)

    click.echo("recording" if asyncio.run(act()) else "nothing to do")


@load.command()
@site_option
@ring_option
@json_option
def show(site_path: Path, ring: Path | None, as_json: bool) -> None:
    """Show the load of the last day, hour by hour."""
    from cumulet.monitor import read_bins, summarize_day

    now = time.time()
    hours = summarize_day(read_bins(site_path, ring, now), now)
    if as_json:
        click.echo(json.dumps([asdict(hour) for hour in hours], indent=1))
        return
    for hour in hours:
        clock = time.strftime("%a %H:00", time.localtime(hour.start))
        bar = "#" * round(hour.load / 2) if hour.load is not None else "nothing was recorded"
        click.echo(f"{clock}  {'' if hour.load is None else f'{hour.load:5.1f} %'}  {bar}".rstrip())


@load.command()
@click.option("--for", "length", default="30m", help="How long the update takes. [default: 30m]")
@site_option
@ring_option
@json_option
def window(length: str, site_path: Path, ring: Path | None, as_json: bool) -> None:
    """Show the quietest stretch of the coming week."""
    from cumulet.monitor import describe_window, find_window_of

    found = find_window_of(site_path, ring, length)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    else:
        click.echo(describe_window(found))
