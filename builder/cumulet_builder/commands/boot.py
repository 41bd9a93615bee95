"""`cumulet boot`: start an image in QEMU, to look around in it or until it reports a state."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import click

if TYPE_CHECKING:
    from cumulet_qemu.boot import Goal, Milestone
    from cumulet_qemu.machine import Options
    from cumulet_qemu.published import Published
    from cumulet_qemu.vm import VirtualMachine

KEYS = ("id_ed25519.pub", "id_ecdsa.pub", "id_rsa.pub")


class Choices(TypedDict):
    """The options of `cumulet boot`."""

    out: Path
    firmware: bool
    ssh_port: int
    memory: str | None
    cpus: int | None
    disk_size: str | None
    keep: Path | None
    node: Path | None
    accel: Literal["tcg", "kvm"]
    until: Goal | None
    console: bool
    logs: Path | None
    time_scale: float
    as_json: bool


@click.command("boot")
@click.argument("image")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Where images are. [default: ./out]")
@click.option("--firmware", is_flag=True, help="Boot the disk through UEFI firmware instead of the kernel directly.")
@click.option("--ssh-port", type=click.IntRange(0, 65535), default=0, help="Port here that leads to the guest's ssh.")
@click.option("--memory", metavar="SIZE", help="Memory, such as 3GiB. [default: the board's]")
@click.option("--cpus", type=click.IntRange(1, 64), help="Processors. [default: the board's]")
@click.option("--disk-size", metavar="SIZE", help="Size of the disk that the guest sees. [default: 8GiB or more]")
@click.option("--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep the disk in DIR for the next boot.")
@click.option(
    "--node", type=click.Path(path_type=Path), metavar="FILE", help="Node document that wins over the image's."
)
@click.option("--accel", type=click.Choice(["tcg", "kvm"]), default="tcg", help="How code is run. [default: tcg]")
@click.option(
    "--until", type=click.Choice(["running", "login", "ready"]), help="End with code 0 when the guest is there."
)
@click.option("--console", is_flag=True, help="Stay on the console, also after --until. Ctrl-] leaves.")
@click.option("--logs", type=click.Path(path_type=Path), metavar="DIR", help="Folder for the console transcripts.")
@click.option("--time-scale", type=float, default=1.0, help="Multiplies every deadline.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def command(image: str, **choices: Unpack[Choices]) -> None:
    """Boot IMAGE, a published folder or the name of an image, in QEMU.

    On a terminal the machine's console is shown and Ctrl-] leaves. The image
    itself is never changed.
    """
    from cumulet_qemu.boot import check_goal, describe
    from cumulet_qemu.published import find_image, load_published
    from cumulet_qemu.vm import VirtualMachine

    published = load_published(find_image(image, choices["out"]))
    console, goal = choose_ending(choices)
    check_goal(published, goal)
    options = make_options(published, choices)
    with VirtualMachine(published, options, choices["logs"]) as vm:
        say(f"{describe(published, options)}; {vm.ssh_command}")
        reached = run_until(vm, goal, choices) if goal else []
        if console:
            attach_console(vm)
        if options.keep:
            switch_off(vm, choices)
        if choices["as_json"]:
            click.echo(json.dumps(make_result(published, vm, reached)))


def choose_ending(choices: Choices) -> tuple[bool, Goal | None]:
    """Whether the console is shown, and the state to wait for first. Raises UsageError without a terminal."""
    from cumulet.core.errors import UsageError

    terminal = sys.stdin.isatty() and sys.stdout.isatty()
    if choices["console"] and not terminal:
        raise UsageError("--console: this is not a terminal", hint="--until running")
    goal = choices["until"]
    if goal is None and not terminal:
        goal = "running"
    return choices["console"] or goal is None, goal


def make_options(published: Published, choices: Choices) -> Options:
    """The machine's options from the command line. Raises UsageError for a size or document that is wrong."""
    from cumulet_qemu.machine import Options, choose_pin
    from cumulet_qemu.nodefile import load_document, make_document
    from cumulet_qemu.published import parse_size

    memory, disk_size, node = choices["memory"], choices["disk_size"], choices["node"]
    return Options(
        firmware=choices["firmware"],
        memory=parse_size(memory, "--memory") if memory else None,
        cpus=choices["cpus"],
        ssh_port=choices["ssh_port"],
        node=load_document(node) if node else make_document(published, load_keys(Path.home() / ".ssh")),
        keep=choices["keep"],
        disk_size=parse_size(disk_size, "--disk-size") if disk_size else None,
        accel=choices["accel"],
        modem_pin=choose_pin(published, os.environ),
    )


def load_keys(folder: Path) -> list[str]:
    """The user's own public keys, so that the printed ssh command works."""
    return [(folder / name).read_text().strip() for name in KEYS if (folder / name).is_file()]


def run_until(vm: VirtualMachine, goal: Goal, choices: Choices) -> list[Milestone]:
    """Wait for the state and print every one on the way, and last what the receiver sees if there is one."""
    from cumulet_qemu.boot import describe_sky, wait_goal
    from cumulet_qemu.guest import Patience

    def tell(milestone: Milestone) -> None:
        uptime = f"uptime {milestone.uptime:.1f} s" if milestone.uptime is not None else "ssh answers"
        say(f"{milestone.seconds:8.1f} s  {milestone.state}  ({uptime})")

    reached = wait_goal(vm, goal, Patience(choices["time_scale"]), tell)
    sky = describe_sky(vm)
    if sky:
        say(sky)
    return reached


def attach_console(vm: VirtualMachine) -> None:
    """Show the console until the user leaves or the machine ends; a machine that failed is an error."""
    from cumulet.core.deadline import Deadline
    from cumulet_qemu.terminal import attach

    say("Ctrl-] leaves the console.")
    left = attach(vm)
    say("")
    if not left:
        vm.wait_end(Deadline.after(5))


def switch_off(vm: VirtualMachine, choices: Choices) -> None:
    """End a machine whose disk is kept the way its file systems like it."""
    from cumulet_qemu.boot import SHUTDOWN_SECONDS
    from cumulet_qemu.guest import Patience

    vm.powerdown(Patience(choices["time_scale"])(SHUTDOWN_SECONDS))


def make_result(published: Published, vm: VirtualMachine, reached: list[Milestone]) -> dict[str, object]:
    """The result of a boot for programs: seconds are uptimes of the guest."""
    return {
        "image": published.image,
        "ssh_port": vm.ssh_port,
        "reached": [{"state": each.state, "uptime": each.uptime, "seconds": each.seconds} for each in reached],
    }


def say(text: str) -> None:
    """A line for people: never on standard output, which belongs to --json."""
    click.echo(text, err=True)
