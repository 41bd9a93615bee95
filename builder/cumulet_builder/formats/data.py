"""The data partition: an ext4 file system with its first content."""

from __future__ import annotations

import re
from pathlib import Path

from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.tree import Tree, write_tar

TOOL_PACKAGES = ("e2fsprogs", "libarchive13t64")
BLOCK = 4096
LABEL = "data"
FREE = re.compile(r"^  Free blocks: (.+)$", re.MULTILINE)
Range = tuple[int, int]
"""Start and end (not included), in bytes."""


def make_arguments(inputs: DiskInputs, tar: Path, target: Path) -> list[str]:
    """The command that writes the file system with the content of the archive `tar`."""
    identifier = inputs.identifier("data")
    size = inputs.layout.partition("data").size
    return [
        "mke2fs", "-q", "-F", "-t", "ext4", "-b", str(BLOCK), "-m", "0", "-L", LABEL, "-U", identifier,
        "-E", f"hash_seed={identifier},root_owner=0:0", "-d", str(tar), str(target), str(size // BLOCK),
    ]  # fmt: skip


def write_data(inputs: DiskInputs, target: Path, bench: Bench) -> None:
    """Write the file system into the file `target`."""
    tar = inputs.data_tree
    if tar is None:
        tar = target.with_suffix(".tar")
        with tar.open("wb") as stream:
            write_tar(Tree(), stream, inputs.epoch)
    arguments = make_arguments(inputs, tar, target)
    bench.toolbox.run(arguments, folders=[target.parent, tar.parent], env=inputs.environment, log=bench.log)


def probe_used(target: Path, bench: Bench) -> list[Range]:
    """The ranges of the file system that must be written: every block that it has in use."""
    result = bench.toolbox.run(["dumpe2fs", target], folders=[target.parent])
    return make_used(result.out, target.stat().st_size)


def make_used(text: str, size: int) -> list[Range]:
    """The used ranges from the output of dumpe2fs, for a file system of `size` bytes."""
    free: list[Range] = []
    for match in FREE.finditer(text):
        for word in match[1].split(", "):
            first, _, last = word.partition("-")
            free.append((int(first) * BLOCK, (int(last or first) + 1) * BLOCK))
    used, position = [], 0
    for start, end in [*sorted(free), (size, size)]:
        if start > position:
            used.append((position, start))
        position = max(position, end)
    return used
