"""`cumulet load`: how busy a site has been, and when it will be quietest."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cumulet_builder.commands.task import json_option, kubeconfig_option, site_option

if TYPE_CHECKING:
    from cumulet.monitor import Bin, Window

ring_option = click.option(
    "--ring", type=click.Path(path_type=Path, exists=True), help="A ring file. [default: the control node's]"
)
BASES = {"weekdays": "by the last two weeks", "days": "by the last days", "night": "nothing is known yet: at night"}


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
    from cumulet.monitor import summarize_day

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
    found = find_window_of(site_path, ring, length)
    if as_json:
        click.echo(json.dumps(asdict(found), indent=1))
    else:
        click.echo(describe_window(found))


def find_window_of(site_path: Path, ring: Path | None, length: str) -> Window:
    """The quietest stretch of a site, in this computer's time zone. Raises UsageError for a wrong length."""
    from cumulet.core.errors import UsageError
    from cumulet.monitor import find_window
    from cumulet.tasks import parse_seconds

    try:
        seconds = parse_seconds(length)
    except ValueError as error:
        raise UsageError(f"--for: {error}", hint="--for 30m") from None
    now = time.time()
    return find_window(read_bins(site_path, ring, now), seconds, now, utc_offset=time.localtime(now).tm_gmtoff)


def describe_window(found: Window) -> str:
    """A stretch as a line."""
    begin = time.strftime("%a %d %b %H:%M", time.localtime(found.start))
    end = time.strftime("%H:%M", time.localtime(found.start + found.seconds))
    load_text = f": {found.load:.1f} % expected, {found.usual:.1f} % is usual" if found.load is not None else ""
    return f"{begin} to {end}{load_text} ({BASES[found.basis]})"


def read_bins(site_path: Path, ring: Path | None, now: float) -> list[Bin]:
    """What was recorded: in a ring file, or on the site's control node."""
    import asyncio
    import tempfile

    from cumulet.monitor import FOLDER, read_ring
    from cumulet.site import Site

    if ring is not None:
        return read_ring(ring, now)

    async def fetch() -> bytes:
        found = Site.load(site_path)
        async with found.connected([found.document.control]) as hosts:
            return await hosts[found.document.control.name].read_bytes(str(FOLDER / "load.ring"))

    with tempfile.NamedTemporaryFile() as file:
        file.write(asyncio.run(fetch()))
        file.flush()
        return read_ring(Path(file.name), now)
