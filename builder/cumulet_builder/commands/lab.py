"""`cumulet lab`: nodes as system containers on this computer, to try a site without devices."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict, Unpack

import click

if TYPE_CHECKING:
    from cumulet_qemu.lab.lab import Lab

RECIPE = "lab-node"
BOARDS = {"x86_64": "qemu-amd64", "aarch64": "qemu-arm64"}

name_option = click.option("--name", default="lab", help="Which lab, if there are several. [default: lab]")
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class UpChoices(TypedDict):
    """The less common options of `cumulet lab up`."""

    subnet: str
    image: Path | None
    memory: str | None


@click.group("lab")
def lab() -> None:
    """Nodes as system containers on this computer: systemd, ssh and containers, each on its own cable.

    \b
    cumulet lab up --nodes 5      make five nodes, or start those that are off
    cumulet lab ssh n1            log in
    cumulet lab kill n2           take the power away; `start` gives it back
    cumulet lab cut n3            pull the network cable; `plug` puts it back
    cumulet lab down              take everything away
    """


@lab.command()
@name_option
@click.option("--nodes", type=int, default=5, help="How many nodes. [default: 5]")
@click.option("--subnet", default="10.51.0.0/24", help="Addresses, a /24. [default: 10.51.0.0/24]")
@click.option(
    "--image",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help=f"Published image with a root.tar.zst. [default: recipe {RECIPE} is built]",
)
@click.option("--memory", metavar="SIZE", help="Memory of each node. [default: no limit]")
@json_option
def up(name: str, nodes: int, as_json: bool, **choices: Unpack[UpChoices]) -> None:
    """Bring the lab up: nodes that are missing are made, nodes that are off are started."""
    from cumulet_qemu.lab.lab import Lab
    from cumulet_qemu.lab.store import check_computer, find_labs, make_lab
    from cumulet_qemu.published import parse_size

    check_computer()
    limit = parse_size(choices["memory"], "--memory") if choices["memory"] else None
    image = choices["image"] or build_image(quiet=as_json)
    made = Lab(make_lab(name, choices["subnet"], image, find_labs()))
    made.up(nodes, limit, None if as_json else _tell_start)
    if as_json:
        show(made, as_json)
    else:
        click.echo(f"{name}: {nodes} nodes; key {made.key}; known hosts {made.known_hosts}")


@lab.command()
@name_option
@json_option
def status(name: str, as_json: bool) -> None:
    """Show what each node is like."""
    show(open_lab(name), as_json)


@lab.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("node")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssh(name: str, node: str, command: tuple[str, ...]) -> None:
    """Log in to NODE, or run COMMAND there; ends with its exit code."""
    from cumulet.core import proc
    from cumulet_qemu.lab.wiring import make_ssh_argv

    found = open_lab(name)
    argv = make_ssh_argv(found.key, found.known_hosts, found.node(node).node.host, list(command))
    sys.exit(proc.attach(argv))


def _node_command(verb: str, help_text: str, action: Callable[[Lab, str], None]) -> None:
    @lab.command(verb, help=help_text)
    @name_option
    @click.argument("nodes", nargs=-1, required=True, metavar="NODE...")
    def run(name: str, nodes: tuple[str, ...]) -> None:
        found = open_lab(name)
        for node in nodes:
            found.node(node)
        for node in nodes:
            action(found, node)


_node_command("cut", "Pull the network cable of NODE.", lambda found, node: found.cut(node))
_node_command("plug", "Put the network cable of NODE back.", lambda found, node: found.plug(node))
_node_command("kill", "Take the power of NODE away, at once.", lambda found, node: found.node(node).kill())
_node_command("start", "Give NODE its power back.", lambda found, node: found.start([found.node(node)]))


@lab.command()
@name_option
@click.argument("node")
@click.option("--delay", default="", metavar="TIME", help="Added to each direction, such as 80ms.")
@click.option("--loss", default="", metavar="PERCENT", help="Packets lost in each direction, such as 2%.")
@click.option("--rate", default="", metavar="RATE", help="Limit of each direction, such as 5mbit.")
def slow(name: str, node: str, delay: str, loss: str, rate: str) -> None:
    """Make the link of NODE bad; without options it is good again."""
    from cumulet_qemu.lab.wiring import Slowness

    open_lab(name).slow(node, Slowness(delay, loss, rate))


@lab.command()
@name_option
def down(name: str) -> None:
    """Take the lab away with everything that its nodes have written."""
    from cumulet_qemu.lab.lab import clear_lab
    from cumulet_qemu.lab.store import SUBNET, check_computer, find_labs
    from cumulet_qemu.lab.wiring import make_wiring

    check_computer()
    clear_lab(make_wiring(name, SUBNET), find_labs() / name)


def open_lab(name: str) -> Lab:
    """The lab of this name. Raises UsageError if there is none."""
    from cumulet_qemu.lab.lab import Lab
    from cumulet_qemu.lab.store import find_lab, find_labs

    return Lab(find_lab(name, find_labs()))


def build_image(*, quiet: bool) -> Path:
    """The folder of the lab's image for this computer's architecture, built if need be."""
    from cumulet.core.errors import ToolError
    from cumulet_builder.build import build
    from cumulet_builder.cache import default_root
    from cumulet_builder.commands.progress import Lines
    from cumulet_builder.recipe.load import find_recipe
    from cumulet_builder.settings import Settings

    board = BOARDS.get(platform.machine())
    if board is None:
        raise ToolError(f"{platform.machine()}: no lab on this architecture", hint="use amd64 or arm64")
    settings = Settings(Path("out"), default_root(), (f"board={board}",))
    with Lines(quiet=quiet) as lines:
        return build(find_recipe(RECIPE), settings, lines).folder


def show(found: Lab, as_json: bool) -> None:
    """Print every node as a line, or all as JSON."""
    nodes = found.status()
    if as_json:
        files = {"key": str(found.key), "known_hosts": str(found.known_hosts)}
        click.echo(json.dumps({"lab": found.wiring.name, **files, "nodes": [asdict(each) for each in nodes]}, indent=1))
        return
    for each in nodes:
        power = "on" if each.running else "off"
        click.echo(f"{each.name:<6} {each.address:<15} {power:<4} {'plugged in' if each.plugged else 'unplugged'}")


def _tell_start(node: str, seconds: float) -> None:
    click.echo(f"  {node:<6} answers after {seconds:.1f} s", err=True)
