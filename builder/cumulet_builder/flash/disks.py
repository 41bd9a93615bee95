"""A disk of this computer as a flashing tool must see it: what it is, and what this computer uses it for."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import ToolError, UsageError

SECTOR = 512
# Whatever is mounted here makes this computer run: its disk is never written to.
SYSTEM = ("/", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/etc", "/home", "/nix", "/usr", "/var")
Number = tuple[int, int]
"""Major and minor number of a device."""


@dataclass(frozen=True, slots=True)
class Use:
    """One way in which this computer uses a disk, in words; `system`: it runs from there."""

    what: str
    system: bool = False


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """A disk. `size` in bytes; `whole` is False for a partition; `uses` cover its partitions and what lies on them."""

    device: str
    size: int
    whole: bool = True
    read_only: bool = False
    model: str = ""
    uses: tuple[Use, ...] = ()


def probe_disk(device: str, sys: Path = Path("/sys"), proc: Path = Path("/proc")) -> DiskFacts:
    """Look at a block device. Raises UsageError if it is none, ToolError if it may not be looked at."""
    path = Path(device)
    try:
        facts = path.stat()
    except OSError as error:
        raise UsageError(f"{device}: {error.strerror}", hint="lsblk lists this computer's disks") from error
    if not stat.S_ISBLK(facts.st_mode):
        raise UsageError(f"{device}: not a block device", hint="lsblk lists this computer's disks")
    real = path.resolve()
    folder = (sys / "class/block" / real.name).resolve()
    stack = read_stack(sys, folder.parent if (folder / "partition").exists() else folder)
    mounts = read_mounts((proc / "self/mountinfo").read_text())
    swaps = [line.split()[0] for line in (proc / "swaps").read_text().splitlines()[1:] if line]
    uses = [*make_uses(stack, mounts), *make_swap_uses(stack, swaps)]
    if not uses and not _is_free(real):
        uses = [Use("in use: mounted in another namespace, or part of something bigger")]
    return DiskFacts(
        device=str(real),
        size=int(_read(folder / "size") or 0) * SECTOR,
        whole=not (folder / "partition").exists(),
        read_only=_read(folder / "ro") == "1",
        model=" ".join(f"{_read(folder / 'device/vendor')} {_read(folder / 'device/model')}".split()),
        uses=tuple(uses),
    )


def read_stack(sys: Path, folder: Path) -> dict[Number, str]:
    """Number -> name of a disk, its partitions, and everything that is built on them."""
    found: dict[Number, str] = {}
    todo = [folder]
    while todo:
        here = todo.pop()
        major, _, minor = _read(here / "dev").partition(":")
        if not minor or (int(major), int(minor)) in found:
            continue
        found[int(major), int(minor)] = here.name
        todo += [each for each in here.iterdir() if (each / "partition").exists()]
        todo += [(sys / "class/block" / each.name).resolve() for each in (here / "holders").glob("*")]
    return found


def read_mounts(text: str) -> list[tuple[Number, str]]:
    """(device, mount point) of every mounted file system, from the text of /proc/self/mountinfo."""
    found = []
    for line in text.splitlines():
        words = line.split()
        major, _, minor = words[2].partition(":")
        number = int(major), int(minor)
        source = words[words.index("-") + 2]
        if number[0] == 0 and source.startswith("/dev/"):
            # btrfs and the like number their mounts themselves; the source names the device.
            number = _number_of(source) or number
        found.append((number, words[4].replace("\\040", " ")))
    return found


def make_uses(stack: Mapping[Number, str], mounts: list[tuple[Number, str]]) -> list[Use]:
    """How the mounted file systems use a disk. Pure."""
    return [
        Use(f"{stack[number]} is mounted on {place}", place in SYSTEM) for number, place in mounts if number in stack
    ]


def make_swap_uses(stack: Mapping[Number, str], swaps: list[str]) -> list[Use]:
    """How swapping uses a disk: by partitions; a swap file's disk is mounted anyway."""
    numbers = [number for name in swaps if (number := _number_of(name)) is not None]
    return [Use(f"{stack[number]} is swap", system=True) for number in numbers if number in stack]


def _number_of(device: str) -> Number | None:
    try:
        facts = os.stat(device)  # noqa: PTH116 - a device, whose number is wanted
    except OSError:
        return None
    return (os.major(facts.st_rdev), os.minor(facts.st_rdev)) if stat.S_ISBLK(facts.st_mode) else None


def _is_free(path: Path) -> bool:
    """Whether the kernel lets somebody have the disk alone. Raises ToolError without the right to open it."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_EXCL))
    except PermissionError as error:
        raise ToolError(f"{path}: {error.strerror}", hint="run the same command as root") from error
    except OSError:
        return False
    return True


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
