"""Flashing by NXP's uuu: boards of the i.MX family, which start a boot loader over USB and write through it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cumulet.core import proc
from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet_builder.flash.plan import Check, Plan, Step
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget

PROGRAM = "uuu"
SCRIPT = "PLAN.uuu"
WRITE_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class UuuFacts:
    """Whether this computer has uuu, and the devices that it sees."""

    have: bool
    devices: str = ""


def find_device() -> str:
    """Whatever waits on USB: uuu knows boards by their chip."""
    return "usb"


def probe(target: FlashTarget, around: Surroundings) -> UuuFacts:
    """Look for uuu and let it look for devices."""
    if proc.find(PROGRAM) is None:
        return UuuFacts(have=False)
    return UuuFacts(have=True, devices=proc.run([PROGRAM, "-lsusb"], timeout=30, check=False).out.strip())


def make_script(target: FlashTarget) -> str:
    """uuu's own script, from the board's lines. Raises UsageError where the board has none, or a file is missing."""
    files = {"{disk}": target.disk.path if target.disk else None, "{loader}": target.loader}
    text = "".join(f"{line}\n" for line in ("uuu_version 1.4.0", *target.script))
    missing = [name.strip("{}") for name, path in files.items() if path is None and name in text]
    if missing or not target.script:
        what = f"the image has no {' and no '.join(missing)} for uuu" if missing else "its board has no script for uuu"
        raise UsageError(f"{target.image}: {what}", hint="see `flash:` and `boot:` in the board's file")
    for name, path in files.items():
        text = text.replace(name, str(path))
    return text


def make_plan(target: FlashTarget, facts: UuuFacts | None) -> Plan:
    """The plan: one run of uuu over a script, whose lines are steps for the eye."""
    script = make_script(target)
    disk = target.disk
    size, digest = (disk.stored, disk.sha256) if disk else (0, "")
    steps = (Step("uuu", (PROGRAM, "-v", SCRIPT), size, digest),)
    notes = (*target.notes, *script.splitlines(), "uuu cannot read back what it wrote")
    # Not a reason to refuse a plan: who reads it may have uuu elsewhere.
    found = "" if facts is None else "installed" if facts.have else "missing: apt-get install uuu"
    return Plan(target.image, target.board, "uuu", "usb", (Check("uuu", "installed", found, None),), steps, notes)


def act(target: FlashTarget, plan: Plan, facts: UuuFacts, around: Surroundings) -> None:
    """Run uuu over the script. Raises ToolError without it, TargetError if it fails."""
    if not facts.have:
        raise ToolError(
            f"{PROGRAM}: no such program on this computer; {target.board} is flashed by it",
            hint="apt-get install uuu (Debian 12 or newer)",
        )
    with TemporaryDirectory(prefix="cumulet-flash-") as name:
        script = Path(name, SCRIPT)
        script.write_text(make_script(target))
        around.tell(plan.steps[0])
        result = proc.run([PROGRAM, "-v", script], timeout=WRITE_SECONDS, check=False)
        if result.code != 0:
            last = (result.out.strip().splitlines() or [proc.describe_exit(result.code)])[-1]
            raise TargetError(
                f"{target.board}: uuu: {last}", hint="hold the keys for its USB mode, plug it in, try again"
            )


def verify(target: FlashTarget, plan: Plan, facts: UuuFacts, around: Surroundings) -> bool:
    """Nothing can be read back through uuu."""
    return False
