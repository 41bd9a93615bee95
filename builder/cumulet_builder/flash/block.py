"""Flashing a disk of this computer: SD cards, eMMC in a reader. By bmaptool, or by dd where there is none.

The disk itself says what is left to do: it is read first, and only what differs is written. So a run that was
cut goes on where it was, a second run writes nothing, and the last reading is the proof.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from cumulet.core import proc
from cumulet.core.errors import TargetError, UsageError
from cumulet_builder.flash.disks import DiskFacts, probe_disk
from cumulet_builder.flash.plan import Check, Plan, Step
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget, ImageFile
from cumulet_builder.formats.blockmap import BLOCK, make_map, probe_ranges

PIECE = 4 << 20
BLKFLSBUF = 0x1261
BMAPTOOL, DD = "bmaptool", "dd"
RANGE = re.compile(r"<Range[^>]*>\s*(\d+)(?:-(\d+))?\s*</Range>")
IMAGE_SIZE = re.compile(r"<ImageSize>\s*(\d+)\s*</ImageSize>")
Span = tuple[int, int]
"""First and last block of 4096 bytes."""


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """The disk, what of it must be as the image says, and what is not. `bmaptool`: whether this computer has it."""

    disk: DiskFacts
    bmaptool: bool
    content: tuple[Span, ...] = ()
    differing: tuple[Span, ...] = ()


def find_device() -> str:
    """None: a disk is never guessed."""
    return ""


def probe(target: FlashTarget, around: Surroundings) -> BlockFacts:
    """Look at the disk, and read it where the image has content. Raises UsageError, ToolError."""
    image = _image_of(target)
    if not around.device:
        raise UsageError("which disk is to be written?", hint="--to /dev/sdX; lsblk lists this computer's disks")
    disk = probe_disk(around.device)
    content = load_content(target)
    if problems_of(disk, image):
        # A disk that is not written is not read either.
        return BlockFacts(disk, proc.find(BMAPTOOL) is not None, content, content)
    differing = content if around.restart else tuple(probe_differing(image.path, Path(disk.device), content))
    return BlockFacts(disk, proc.find(BMAPTOOL) is not None, content, differing)


def load_content(target: FlashTarget) -> tuple[Span, ...]:
    """The blocks that hold content: the published map's, or without one those that are not holes."""
    image = _image_of(target)
    if target.block_map is None:
        return tuple((first, last) for first, last, _ in probe_ranges(image.path))
    text = target.block_map.read_text()
    size = IMAGE_SIZE.search(text)
    if size is None or int(size[1]) != image.size:
        raise UsageError(f"{target.block_map}: not the map of {image.path.name}", hint="build or copy the image again")
    return tuple((int(first), int(last or first)) for first, last in RANGE.findall(text))


def cut_up(spans: Sequence[Span]) -> Iterator[Span]:
    """The same blocks in pieces of 4 MiB at most, so that little is written twice after a cut."""
    step = PIECE // BLOCK
    for first, last in spans:
        for start in range(first, last + 1, step):
            yield start, min(start + step - 1, last)


def join(spans: Sequence[Span]) -> list[Span]:
    """The same blocks with neighbours in one."""
    joined: list[Span] = []
    for first, last in spans:
        if joined and joined[-1][1] + 1 == first:
            joined[-1] = (joined[-1][0], last)
        else:
            joined.append((first, last))
    return joined


def probe_differing(image: Path, device: Path, content: Sequence[Span]) -> Iterator[Span]:
    """The pieces of the image that the device does not have. Nothing is taken from this computer's memory."""
    ours, theirs = os.open(image, os.O_RDONLY), os.open(device, os.O_RDONLY)
    try:
        _forget_read(theirs)
        for first, last in cut_up(content):
            start, size = first * BLOCK, (last - first + 1) * BLOCK
            wanted = _read(ours, start, size)
            if _read(theirs, start, len(wanted)) != wanted:
                yield first, last
    finally:
        os.close(ours)
        os.close(theirs)


def _read(handle: int, start: int, size: int) -> bytes:
    parts: list[bytes] = []
    while size:
        part = os.pread(handle, size, start)
        if not part:
            break
        parts.append(part)
        start, size = start + len(part), size - len(part)
    return b"".join(parts)


def _forget_read(handle: int) -> None:
    os.fsync(handle)
    try:
        fcntl.ioctl(handle, BLKFLSBUF, 0)
    except PermissionError:
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)


def make_plan(target: FlashTarget, facts: BlockFacts | None) -> Plan:
    """The plan for a disk, or without facts for one that is not named yet."""
    image = _image_of(target)
    method = BMAPTOOL if facts is None or facts.bmaptool else DD
    device = facts.disk.device if facts else ""
    spans = tuple(join(facts.differing)) if facts else ()
    steps = list(_make_writes(method, image, device, spans)) if facts is None or spans else []
    steps.append(Step("verify", bytes=_size_of(facts.content) if facts else image.size, sha256=image.sha256))
    notes = target.notes
    if facts and spans and spans != tuple(join(facts.content)):
        notes = (*notes, f"{_size_of(facts.content) - _size_of(spans)} bytes are on {device} already")
    if method == DD:
        notes = (*notes, "there is no bmaptool on this computer: dd does it, a little slower")
    return Plan(target.image, target.board, target.method, device, make_checks(target, facts), tuple(steps), notes)


def _make_writes(method: str, image: ImageFile, device: str, spans: Sequence[Span]) -> Iterator[Step]:
    to = device or "DISK"
    if method == BMAPTOOL:
        argv = (BMAPTOOL, "copy", "--bmap", "PLAN.bmap", str(image.path), to)
        yield Step(f"write {to}", argv, _size_of(spans) or image.size, image.sha256, tuple(spans))
        return
    for first, last in spans or [(0, -(-image.size // BLOCK) - 1)]:
        start, size = first * BLOCK, (last - first + 1) * BLOCK
        words = (
            DD, f"if={image.path}", f"of={to}", f"bs={PIECE}", f"skip={start}", f"seek={start}", f"count={size}",
            "iflag=fullblock,skip_bytes,count_bytes", "oflag=seek_bytes", "conv=notrunc,fsync", "status=none",
        )  # fmt: skip
        yield Step(f"write {to} at {start}", words, size, image.sha256, ((first, last),))


def make_checks(target: FlashTarget, facts: BlockFacts | None) -> tuple[Check, ...]:
    """Everything that must be so before a byte is written."""
    image = _image_of(target)
    names = ("whole disk", "not this computer's system", "not in use", "writable", f"room for {image.size} bytes")
    if facts is None:
        return tuple(Check(name, "yes", "", None) for name in names)
    problems = problems_of(facts.disk, image)
    found = " ".join(each for each in (facts.disk.device, facts.disk.model) if each)
    return tuple(Check(name, "yes", found, name not in problems, *problems.get(name, ("", ""))) for name in names)


def problems_of(disk: DiskFacts, image: ImageFile) -> dict[str, tuple[str, str]]:
    """Name of a check -> (what is wrong, what to do), of those that fail. Pure."""
    found: dict[str, tuple[str, str]] = {}
    if not disk.whole:
        found["whole disk"] = ("a partition, and the image is a whole disk", "name the disk it is on")
    systems = [use.what for use in disk.uses if use.system]
    others = [use.what for use in disk.uses if not use.system]
    if systems:
        message = f"this computer runs from it: {', '.join(systems)}"
        found["not this computer's system"] = (message, "name another disk: lsblk lists them")
    elif others:
        found["not in use"] = (", ".join(others), "unmount it first, if it is the right one")
    if disk.read_only:
        found["writable"] = ("it is write-protected", "look for the switch on the card or its adapter")
    if disk.size < image.size:
        message = f"it has {disk.size} bytes, the image takes {image.size}"
        found[f"room for {image.size} bytes"] = (message, "use a bigger one, or build with a smaller disk.data")
    return found


def act(target: FlashTarget, plan: Plan, facts: BlockFacts, around: Surroundings) -> None:
    """Write what differs. Raises TargetError."""
    image = _image_of(target)
    with TemporaryDirectory(prefix="cumulet-flash-") as name:
        block_map = Path(name, "PLAN.bmap")
        for step in plan.left:
            if not step.argv:
                continue
            around.tell(step)
            if step.argv[0] == BMAPTOOL:
                block_map.write_text(make_map(image.size, digest_ranges(image.path, step.ranges)))
            words = tuple(str(block_map) if word == "PLAN.bmap" else word for word in step.argv)
            result = proc.run(words, check=False)
            if result.code != 0:
                last = (result.err.strip().splitlines() or [proc.describe_exit(result.code)])[-1]
                raise TargetError(f"{plan.device}: {step.id}: {last}", hint="the same command goes on from here")


def digest_ranges(image: Path, spans: Sequence[Span]) -> list[tuple[int, int, str]]:
    """The ranges of a block map with the SHA-256 of each."""
    handle = os.open(image, os.O_RDONLY)
    try:
        found = []
        for first, last in spans:
            digest = hashlib.sha256()
            for start, end in cut_up([(first, last)]):
                digest.update(_read(handle, start * BLOCK, (end - start + 1) * BLOCK))
            found.append((first, last, digest.hexdigest()))
    finally:
        os.close(handle)
    return found


def verify(target: FlashTarget, plan: Plan, facts: BlockFacts, around: Surroundings) -> bool:
    """Read the disk back. Raises TargetError if it is not what was written."""
    around.tell(plan.steps[-1])
    wrong = next(probe_differing(_image_of(target).path, Path(plan.device), facts.content), None)
    if wrong is not None:
        raise TargetError(
            f"{plan.device}: reads back differently from byte {wrong[0] * BLOCK} on",
            hint="flash again; if it stays so, the medium is broken",
        )
    return True


def _image_of(target: FlashTarget) -> ImageFile:
    if target.disk is None:
        raise UsageError(f"{target.image}: there is no disk image to write", hint="formats: [disk, blockmap]")
    return target.disk


def _size_of(spans: Sequence[Span]) -> int:
    return sum(last - first + 1 for first, last in spans) * BLOCK
