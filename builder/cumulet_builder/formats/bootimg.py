"""Android's boot image of the first slot: kernel, device tree, initramfs and command line in one file.

The boot loader copies its parts to places in memory that the header names, so that none may reach into the next.
That is why the kernel is compressed.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.documents import make_error
from cumulet.core.errors import Problem, TargetError, ToolError
from cumulet_builder.formats.esp import make_command_line
from cumulet_builder.formats.inputs import Bench, DiskInputs
from cumulet_builder.recipe.board import Android
from cumulet_builder.tree import read_tar

TOOL_PACKAGES = ("mkbootimg",)
NAME = "boot.img"
SLOT = "root-a"
# Android's boot loaders add a root= of their own, which must not win.
ROOT_KEY = "cumulet.root"
COMMAND_LINE = 512 + 1024 - 1
HINT = "this is a fault of the build: report it with the build log"


@dataclass(frozen=True)
class Parts:
    """Sizes in bytes: the compressed kernel with what is appended to it, the initramfs, the separate device tree."""

    kernel: int
    ramdisk: int
    device_tree: int


def write(inputs: DiskInputs, bench: Bench) -> None:
    """Write `boot.img` and read its header back.

    Raises UsageError if a part is too big for its window, TargetError if the header is not what was asked for.
    """
    android = inputs.boot.android or Android()
    with tempfile.TemporaryDirectory(prefix=".boot-", dir=bench.folder) as name:
        work = Path(name)
        kernel, tree = work / "kernel", work / "board.dtb"
        tree.write_bytes(load_device_tree(inputs))
        _compress(inputs.kernel, kernel, bench)
        if android.append_dtb:
            kernel.write_bytes(kernel.read_bytes() + tree.read_bytes())
        separate = tree.stat().st_size if android.header_version else 0
        parts = Parts(kernel.stat().st_size, inputs.initramfs.stat().st_size, separate)
        line = make_command_line(inputs.command_line, SLOT, ROOT_KEY)
        problems = [Problem(NAME, 0, 0, *each) for each in find_problems(android, parts, line)]
        if problems:
            raise make_error(problems)
        if bench.formats is None:
            raise ToolError(f"{NAME}: this engine has no tools for it", hint="engine: debian")
        target = bench.folder / NAME
        arguments = make_arguments(android, (kernel, inputs.initramfs, tree), line, target)
        folders = [bench.folder, work, inputs.initramfs.parent]
        bench.formats.run(arguments, folders=folders, env=inputs.environment, log=bench.log)
        refuse_broken(target, android, parts)


def load_device_tree(inputs: DiskInputs) -> bytes:
    """The board's only device tree. Raises UsageError if it has none or several."""
    trees = read_tar(inputs.device_trees)
    names = [path for path, node in trees.walk() if node.kind == "file"]
    if len(names) != 1:
        text = f"it holds one device tree, and the board names {len(names)}"
        raise make_error([Problem(NAME, 0, 0, text, "name just one in the board's kernel.device_trees")])
    return trees.read(names[0])


def find_problems(android: Android, parts: Parts, command_line: str) -> Iterator[tuple[str, str]]:
    """(message, hint) for each part that would reach into the next one in memory. Pure."""
    starts = {
        "kernel": (int(android.kernel_offset, 16), parts.kernel),
        "initramfs": (int(android.ramdisk_offset, 16), parts.ramdisk),
    }
    if parts.device_tree and android.dtb_offset:
        starts["device tree"] = (int(android.dtb_offset, 16), parts.device_tree)
    for name, (start, size) in starts.items():
        after = [(other, place) for other, (place, _) in starts.items() if place > start]
        if not after:
            continue
        other, end = min(after, key=lambda each: each[1])
        if start + size > end:
            yield (
                f"the {name} takes {size} bytes, and only {end - start} lie between it and the {other}",
                "a smaller kernel package, fewer initramfs_modules, or other offsets in the board's boot.android",
            )
    if len(command_line) > COMMAND_LINE:
        yield (
            f"the command line has {len(command_line)} bytes, and a boot image holds {COMMAND_LINE}",
            "shorten the board's kernel.command_line",
        )


def make_arguments(android: Android, files: tuple[Path, Path, Path], command_line: str, target: Path) -> list[str]:
    """The command that writes `target` from the files of kernel, initramfs and device tree."""
    kernel, ramdisk, tree = map(str, files)
    words = ["python3", "/usr/bin/mkbootimg", "--kernel", kernel, "--ramdisk", ramdisk, "--cmdline", command_line]
    words += ["--header_version", str(android.header_version), "--pagesize", str(android.page_size)]
    words += ["--base", android.base, "--kernel_offset", android.kernel_offset]
    words += ["--ramdisk_offset", android.ramdisk_offset, "--second_offset", android.second_offset]
    words += ["--tags_offset", android.tags_offset]
    if android.header_version:
        words += ["--dtb", tree, "--dtb_offset", android.dtb_offset or "0x01f00000"]
    return [*words, "--output", str(target)]


def refuse_broken(target: Path, android: Android, parts: Parts) -> None:
    """Raise TargetError unless the file's header says what was asked for."""
    head = target.read_bytes()[:2048]
    base = int(android.base, 16)
    want = {
        "magic": (b"ANDROID!", head[:8]),
        "kernel": (parts.kernel, _word(head, 8)),
        "kernel address": (base + int(android.kernel_offset, 16), _word(head, 12)),
        "initramfs": (parts.ramdisk, _word(head, 16)),
        "initramfs address": (base + int(android.ramdisk_offset, 16), _word(head, 20)),
        "page size": (android.page_size, _word(head, 36)),
        "header version": (android.header_version, _word(head, 40)),
    }
    if android.header_version:
        want["device tree"] = (parts.device_tree, _word(head, 1648))
    wrong = [f"{name} is {found!r}, not {asked!r}" for name, (asked, found) in want.items() if found != asked]
    if wrong:
        raise TargetError(f"{target.name}: {'; '.join(wrong)}", hint=HINT)


def _word(data: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", data, offset)[0]
    return value


def _compress(source: Path, target: Path, bench: Bench) -> None:
    shutil.copyfile(source, target)
    bench.toolbox.run(["gzip", "-9", "-n", target], folders=[target.parent], log=bench.log)
    target.with_name(f"{target.name}.gz").rename(target)
