"""Booting an image up to a state that the guest reports, and what was measured on the way."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from cumulet.core.errors import UsageError
from cumulet_qemu.guest import Patience
from cumulet_qemu.machine import Options
from cumulet_qemu.published import Published
from cumulet_qemu.vm import State, VirtualMachine

Goal = Literal["running", "login", "ready"]
SECONDS: dict[Goal, float] = {"running": 600.0, "login": 900.0, "ready": 1800.0}
"""How long a goal may take from the start, under software emulation."""
SHUTDOWN_SECONDS = 300.0
SKY = re.compile(r"cumulet: (gnss: .*)")


@dataclass(frozen=True, slots=True)
class Milestone:
    """A state that the guest reached.

    `uptime` is the guest's own clock since its kernel started, or None where
    only we saw it; `seconds` is this computer's clock since power on.
    """

    state: Goal
    uptime: float | None
    seconds: float


def check_goal(published: Published, goal: Goal | None) -> None:
    """Raise UsageError for a goal that this image can never reach."""
    if goal == "ready" and published.kubernetes is None:
        message = f"{published.image}: has no Kubernetes, so its node never becomes ready"
        raise UsageError(message, hint="--until running")
    if goal == "login" and not published.ssh:
        raise UsageError(f"{published.image}: has no ssh, so nobody can log in", hint="--until running")


def wait_goal(vm: VirtualMachine, goal: Goal, patience: Patience, tell: Callable[[Milestone], None]) -> list[Milestone]:
    """Wait until the guest reaches `goal`; every state on the way is told and returned.

    Raises TargetError with the last console lines if it does not get there.
    """
    reached: list[Milestone] = []
    states: tuple[Goal, ...] = ("running", goal) if goal != "running" else (goal,)
    deadline = patience(SECONDS[goal])
    for state in states:
        if state == "login":
            vm.wait_ssh(deadline)
            uptime = None
        else:
            uptime = vm.wait_state(_as_state(state), deadline)
        reached.append(Milestone(state, uptime, round(vm.seconds, 1)))
        tell(reached[-1])
    return reached


def describe_sky(vm: VirtualMachine) -> str:
    """What the guest has said of the satellite systems that its image asks for; empty if it asks for none."""
    facts = vm.published.gnss
    if facts is None:
        return ""
    found = vm.console.find(SKY)
    return found[1] if found else f"gnss: what the receiver sees is not said yet; it is within {facts.wait} s"


def describe(published: Published, options: Options) -> str:
    """One line: which image is played on what."""
    qemu = published.qemu
    memory = (options.memory or qemu.memory) >> 20
    way = "UEFI firmware" if options.firmware else "direct kernel boot"
    return (
        f"{published.image} on {qemu.program} ({qemu.machine.partition(',')[0]}, {qemu.cpu}, "
        f"{options.cpus or qemu.cpus} processors, {memory} MiB), {way}"
    )


def _as_state(goal: Goal) -> State:
    return "ready" if goal == "ready" else "running"
