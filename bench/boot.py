"""From the kernel's start to systemd running and to the node Ready: ours and the plain way, in one run.

`bench/boot.py`: boots base-arm64 and qemu-arm64 (build them first), and an untrimmed Debian root of the
same packages with the same programs, under the same QEMU. Seconds are the guest's own uptime.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import baseline
from plainimage import Parts, make_plain_image

from cumulet.core.deadline import Deadline
from cumulet.core.errors import CumuletError, TargetError
from cumulet_builder.build import plan
from cumulet_builder.cache import default_root
from cumulet_builder.recipe.load import find_recipe
from cumulet_builder.settings import Settings
from cumulet_qemu.machine import Options
from cumulet_qemu.published import load_published
from cumulet_qemu.vm import State, VirtualMachine

MEMORY = "awk '/MemTotal/ {t = $2} /MemAvailable/ {a = $2} END {print int((t - a) / 1000)}' /proc/meminfo"
NO_CLUSTER = "systemd.mask=plain-cluster.service"
SETTLE_SECONDS = 20


@dataclass(frozen=True)
class Boot:
    """What one boot showed: seconds of uptime (None if not reached in time), memory used in MB (None if not asked)."""

    seconds: float | None
    memory: int | None = None


def main() -> int:
    """Boot, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--limit", type=float, default=900.0, help="seconds after which the plain cluster is given up")
    parser.add_argument("--ours", action="store_true", help="boot only ours")
    arguments = parser.parse_args()
    running = boot(arguments.out / "base-arm64", "running", 600)
    show("cumulet", "running", running)
    ready = boot(arguments.out / "qemu-arm64", "ready", 1200)
    show("cumulet", "node Ready", ready)
    if not arguments.ours:
        compare(running, ready, arguments.limit)
    return 0


def compare(running: Boot, ready: Boot, limit: float) -> None:
    """The same two states of the plain image, and how much sooner ours are."""
    baseline.check_computer()
    plain = make_plain_image(load_parts("qemu-arm64"), Path("/dev/null"))
    other = boot(plain, "running", 600, (NO_CLUSTER,))
    show("plain", "running", other)
    show_ratio("running", running, other, 600)
    other = boot(plain, "ready", limit)
    show("plain", "node Ready", other, limit)
    show_ratio("node Ready", ready, other, limit)


def boot(folder: Path, state: State, limit: float, arguments: tuple[str, ...] = ()) -> Boot:
    """Boot an image until it says that it is in `state`."""
    published = load_published(folder)
    ours = published.image != "plain"
    with VirtualMachine(published, Options(shell=ours, arguments=arguments)) as vm:
        try:
            seconds = vm.wait_state(state, Deadline.after(limit))
        except TargetError:
            if not vm.alive or ours:
                raise
            return Boot(None)
        if not ours:
            return Boot(seconds)
        shell = vm.open_shell(Deadline.after(300))
        Deadline.after(SETTLE_SECONDS + 1).sleep(SETTLE_SECONDS)
        return Boot(seconds, int(shell.check_run(MEMORY, Deadline.after(60))))


def load_parts(recipe: str) -> Parts:
    """A recipe that was built, with the folders of its stages."""
    planned = plan(find_recipe(recipe), Settings(out=Path("out"), cache=default_root()))
    if any(step.run for step in planned.steps):
        raise CumuletError(f"{recipe} is not built: cumulet build {recipe}")
    folders = {step.stage.name: planned.cache.stage(step.stage.name, step.key) for step in planned.steps}
    return Parts(planned, folders)


def show(who: str, state: str, found: Boot, limit: float = 0) -> None:
    """One line."""
    seconds = f"{found.seconds:7.1f} s" if found.seconds is not None else f"not within {limit:.0f} s"
    memory = f"  ({found.memory} MB used)" if found.memory is not None else ""
    print(f"{who:<8} {state:<11} {seconds}{memory}", flush=True)


def show_ratio(state: str, ours: Boot, other: Boot, limit: float) -> None:
    """How much sooner ours is."""
    assert ours.seconds is not None
    least = "" if other.seconds is not None else "more than "
    print(f"ratio    {state:<11} {least}{(other.seconds or limit) / ours.seconds:.1f}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CumuletError as error:
        sys.exit(f"error: {error}")
