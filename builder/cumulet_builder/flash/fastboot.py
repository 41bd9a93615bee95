"""Flashing by Google's fastboot, as Debian packages it: phones in their boot loader, over USB or TCP.

The active slot is never changed: both slots get the same, and which one boots is the boot loader's business.
Tools that set it from a running system have left phones that boot nothing.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from cumulet.core import proc
from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet_builder.flash.journal import Journal
from cumulet_builder.flash.plan import Check, Plan, Step
from cumulet_builder.flash.readback import is_same
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import SLOTS, FlashTarget, ImageFile

PROGRAM = "fastboot"
PORT = 5554
ASK_SECONDS = 30.0
# Half of what the slowest cable does. A fastboot whose device went away may not notice, and wait for ever.
BYTES_PER_SECOND = 4 << 20
VARIABLES = (
    "product", "serialno", "unlocked", "current-slot", "slot-count", "max-download-size", "battery-soc-ok",
    "max-fetch-size",
)  # fmt: skip
ANSWER = re.compile(r"^\(bootloader\) |\r$")


@dataclass(frozen=True, slots=True)
class FastbootFacts:
    """What the boot loader told. Sizes in bytes; None is what it did not tell.

    `sizes`: partition, with its slot -> bytes, of those that are there. `done`: keys of the steps that an interrupted
    run did. `fetch`: most bytes that it gives back at once; 0 is a boot loader, or a fastboot, that cannot read.
    """

    device: str
    product: str = ""
    serial: str = ""
    unlocked: bool | None = None
    current_slot: str = ""
    max_download: int | None = None
    battery_ok: bool | None = None
    fetch: int = 0
    sizes: Mapping[str, int] = field(default_factory=dict)
    done: frozenset[str] = frozenset()


def probe(target: FlashTarget, around: Surroundings) -> FastbootFacts:
    """Ask the boot loader everything the plan wants to know. Raises ToolError, TargetError if it does not answer."""
    device = around.device
    if not device:
        raise TargetError(
            "no device in fastboot mode on this computer",
            hint="start it with volume-down held and plug it in; or name one: --to tcp:HOST:PORT",
        )
    check_reachable(device)
    answers = ask(device, VARIABLES)
    names = [*target.erase, *(name for each in target.writes for name in each.partitions)]
    sizes = ask(device, [f"partition-size:{name}" for name in names])
    serial = answers.get("serialno", "")
    journal = Journal(around.notes, serial or device)
    if around.restart:
        journal.forget()
    return FastbootFacts(
        device=device,
        product=answers.get("product", ""),
        serial=serial,
        unlocked=parse_yes(answers.get("unlocked")),
        current_slot=answers.get("current-slot", "").strip("_"),
        max_download=parse_number(answers.get("max-download-size")),
        battery_ok=parse_yes(answers.get("battery-soc-ok")),
        fetch=(parse_number(answers.get("max-fetch-size")) or 0) if have_fetch() else 0,
        sizes={name: size for name in names if (size := parse_hex(sizes.get(f"partition-size:{name}"))) is not None},
        done=journal.load(),
    )


def find_device() -> str:
    """The one phone in fastboot mode on USB, or nothing. Raises UsageError if there are more."""
    if proc.find(PROGRAM) is None:
        return ""
    listed = proc.run([PROGRAM, "devices"], timeout=ASK_SECONDS).out.splitlines()
    found = [line.split()[0] for line in listed if line.strip()]
    if len(found) > 1:
        raise UsageError(f"{len(found)} devices in fastboot mode: {', '.join(found)}", hint=f"--to {found[0]}")
    return found[0] if found else ""


def check_reachable(device: str) -> None:
    """Raise TargetError if nobody listens at a TCP address: fastboot itself would wait for ever."""
    if not device.startswith("tcp:"):
        return
    host, _, port = device.removeprefix("tcp:").partition(":")
    try:
        socket.create_connection((host, int(port or PORT)), timeout=5).close()
    except (OSError, ValueError) as error:
        raise TargetError(
            f"{device}: does not answer: {getattr(error, 'strerror', None) or error}",
            hint="is it in fastboot mode, and is this its address?",
        ) from error


def ask(device: str, names: Sequence[str]) -> dict[str, str]:
    """Variable -> value, of those that the boot loader knows. Raises TargetError if it does not answer at all."""
    if not names:
        return {}
    argv = [PROGRAM, "-s", device, *(word for name in names for word in ("getvar", name))]
    result = proc.run(argv, timeout=ASK_SECONDS, check=False)
    if result.code != 0:
        last = (result.err.strip().splitlines() or [proc.describe_exit(result.code)])[-1]
        raise TargetError(f"{device}: does not answer: {last}", hint="is it in fastboot mode, and is this its address?")
    return parse_answers(names, result.err)


def parse_answers(names: Iterable[str], text: str) -> dict[str, str]:
    """The variables' values in the output of `fastboot getvar`; a name may have a colon in it itself."""
    lines = [ANSWER.sub("", line) for line in text.splitlines()]
    return {
        name: line.removeprefix(f"{name}:").strip() for name in names for line in lines if line.startswith(f"{name}: ")
    }


def parse_yes(text: str | None) -> bool | None:
    """`yes` and `true` in the words of several boot loaders."""
    known = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
    return known.get((text or "").lower())


def parse_number(text: str | None) -> int | None:
    """`0x10000000` or `268435456`."""
    try:
        return int(text or "", 0)
    except ValueError:
        return None


def parse_hex(text: str | None) -> int | None:
    """Sizes of partitions are hexadecimal, with 0x or without."""
    try:
        return int(text or "", 16)
    except ValueError:
        return None


def have_fetch() -> bool:
    """Whether this computer's fastboot can read a partition: from version 33 on."""
    return "fetch " in proc.run([PROGRAM, "--help"], timeout=ASK_SECONDS, check=False).out


def make_plan(target: FlashTarget, facts: FastbootFacts | None) -> Plan:
    """The plan for a phone; without facts, for one that is not there."""
    device = facts.device if facts else ""
    done = facts.done if facts else frozenset[str]()
    steps = [_step(device, "erase", name) for name in target.erase]
    steps += [_step(device, "flash", name, write.file) for write in target.writes for name in write.partitions]
    steps = [replace(step, done=step.key in done) for step in steps]
    notes = target.notes
    if any(step.done for step in steps):
        notes = (*notes, "an earlier run was cut off: this one goes on from there; --restart begins again")
    if facts and facts.fetch:
        steps += [_read(device, step.id.split()[1], step) for step in steps if step.id.startswith("flash ")]
    else:
        notes = (*notes, "the boot loader gives nothing back to read: that it said OKAY to every write is all there is")
    steps.append(Step("reboot", _argv(device, "reboot")))
    checks = tuple(make_checks(target, facts))
    return Plan(target.image, target.board, "fastboot", device, checks, tuple(steps), notes)


def _argv(device: str, *words: str) -> tuple[str, ...]:
    return (PROGRAM, *(("-s", device) if device else ()), *words)


def _step(device: str, verb: str, partition: str, file: ImageFile | None = None) -> Step:
    if file is None:
        return Step(f"{verb} {partition}", _argv(device, verb, partition))
    return Step(
        f"{verb} {partition}", _argv(device, verb, partition, str(file.path)), bytes=file.stored, sha256=file.sha256
    )


def _read(device: str, partition: str, written: Step) -> Step:
    return Step(f"verify {partition}", _argv(device, "fetch", partition), bytes=written.bytes, sha256=written.sha256)


def make_checks(target: FlashTarget, facts: FastbootFacts | None) -> list[Check]:
    """Everything that must be so before a byte is written."""
    told = facts or FastbootFacts("")
    checks = [_check_product(target, told), _check_unlocked(target, told), _check_battery(told)]
    if any(each.slots == "both" for each in target.writes):
        checks.append(_check_slot(told))
    checks += [_check_partition(told, name) for name in target.erase]
    checks += [_check_write(told, name, each.file) for each in target.writes for name in each.partitions]
    if facts is None:
        return [Check(each.name, each.wanted, "", None) for each in checks]
    return checks


def _check_product(target: FlashTarget, facts: FastbootFacts) -> Check:
    wanted = " or ".join(target.products)
    if not target.products:
        message = f"board {target.board} does not say what its boot loader calls itself"
        return Check("product", "", facts.product, False, message, "add its product name to the board's file")
    message = f"the device says it is {facts.product or 'nothing'!r}, this image is for {wanted} ({target.board})"
    return Check(
        "product",
        wanted,
        facts.product,
        facts.product in target.products,
        "" if facts.product in target.products else message,
        "this is another device: build the image for its board",
    )


def _check_unlocked(target: FlashTarget, facts: FastbootFacts) -> Check:
    message = "" if facts.unlocked else "the boot loader is locked"
    if facts.unlocked is None:
        message = "the boot loader does not say that it is unlocked"
    hint = f"unlock it first, which erases the phone: {target.unlock or 'fastboot flashing unlock'}"
    found = {True: "yes", False: "no", None: ""}[facts.unlocked]
    return Check("unlocked", "yes", found, facts.unlocked is True, message, hint)


def _check_battery(facts: FastbootFacts) -> Check:
    message = "the battery is too low to flash" if facts.battery_ok is False else ""
    found = {True: "yes", False: "no", None: "not told"}[facts.battery_ok]
    return Check("battery", "enough", found, facts.battery_ok is not False, message, "charge it first")


def _check_slot(facts: FastbootFacts) -> Check:
    known = facts.current_slot in SLOTS
    message = "" if known else f"the active slot is {facts.current_slot or 'unknown'!r}, neither a nor b"
    return Check("active slot", "a or b", facts.current_slot, known, message, "fastboot getvar current-slot")


def _check_partition(facts: FastbootFacts, name: str) -> Check:
    there = name in facts.sizes
    found, message = ("there", "") if there else ("missing", f"no partition {name!r} on the device")
    return Check(f"partition {name}", "there", found, there, message)


def _check_write(facts: FastbootFacts, name: str, file: ImageFile) -> Check:
    there = _check_partition(facts, name)
    if not there.ok:
        return replace(there, wanted=f"{file.size} bytes")
    size, most = facts.sizes[name], facts.max_download
    message = hint = ""
    if file.size > size:
        message = f"{file.path.name} takes {file.size} bytes, partition {name} has {size}"
        hint = "make the image smaller, or choose another partition in the board's file"
    elif most is not None and not file.sparse and file.stored > most:
        message = f"{file.path.name} has {file.stored} bytes, the boot loader takes {most} at once"
        hint = "only a sparse image is sent in parts"
    return Check(f"partition {name}", f"{file.size} bytes", f"{size} bytes", not message, message, hint)


def act(target: FlashTarget, plan: Plan, facts: FastbootFacts, around: Surroundings) -> None:
    """Erase and flash, noting each step so that a cut can be gone on from. Raises TargetError."""
    journal = Journal(around.notes, facts.serial or facts.device)
    for step in plan.left:
        if step.id.startswith(("erase ", "flash ")):
            around.tell(step)
            _run(step, facts.device, around.patience)
            journal.note(step)


def verify(target: FlashTarget, plan: Plan, facts: FastbootFacts, around: Surroundings) -> bool:
    """Read back what can be read, then let the device boot. Whether everything written was read back."""
    reads = [step for step in plan.steps if step.id.startswith("verify ")]
    files = {each.file.sha256: each.file for each in target.writes}
    with TemporaryDirectory(prefix="cumulet-flash-") as name:
        for step in reads:
            around.tell(step)
            back = Path(name, "back.img")
            _run(replace(step, argv=(*step.argv, str(back))), facts.device, around.patience)
            if not is_same(files[step.sha256], back):
                partition = step.id.split()[1]
                raise TargetError(
                    f"{facts.device}: partition {partition} reads back differently from what was written",
                    hint="flash again with --restart; if it stays so, the storage is broken",
                )
            back.unlink()
    Journal(around.notes, facts.serial or facts.device).forget()
    last = plan.steps[-1]
    around.tell(last)
    _run(last, facts.device, around.patience)
    return bool(reads)


def _run(step: Step, device: str, patience: float) -> None:
    try:
        result = proc.run(step.argv, timeout=patience + step.bytes / BYTES_PER_SECOND, check=False)
    except ToolError as error:
        raise TargetError(f"{device}: {step.id}: {error.message}", hint="the same command goes on from here") from error
    if result.code != 0:
        raise TargetError(
            f"{device}: {step.id}: {_reason(result)}",
            hint="the same command goes on from here; --restart begins again",
        )


def _reason(result: proc.Result) -> str:
    """The boot loader's own words, or fastboot's last."""
    refused = re.findall(r"FAILED \((?:remote: )?'?(.*?)'?\)", result.err)
    lines = result.err.strip().splitlines()
    return refused[-1] if refused else lines[-1] if lines else proc.describe_exit(result.code)
