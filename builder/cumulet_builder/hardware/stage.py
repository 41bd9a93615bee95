"""The stage `hardware`: reads back what the other stages made and refuses an image that its board could not use."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.documents import make_error
from cumulet_builder.elf import with_libraries
from cumulet_builder.hardware.check import Image, find_problems, judge_board, make_document
from cumulet_builder.hardware.devicetree import DeviceTree, read_device_tree
from cumulet_builder.hardware.drivers import read_drivers
from cumulet_builder.hardware.firmware import START, Supply, read_juicer
from cumulet_builder.hardware.juicer import CONFIGS, PROGRAMS
from cumulet_builder.modules import make_index, make_load_order, module_name
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.board import Board
from cumulet_builder.tree import Tree, read_tar

if TYPE_CHECKING:
    from cumulet_builder.toolbox import Toolbox

CODE = "2"
NAME = "hardware.json"
NEEDS = ("tools", "packages", "kernel", "initramfs", "firmware", "juicer", "root")


def make_stage(board: Board, stages: list[str], toolbox: Callable[[], Toolbox]) -> Stage:
    """The stage for a board with device trees; `stages` are the names of those before it."""

    def make(workshop: Workshop) -> None:
        trees = load_trees(workshop.needs["kernel"])
        image = load_image(board, trees, workshop.needs, toolbox(), workshop)
        verdict = judge_board(board, trees, image)
        problems = find_problems(board, trees, verdict, image.initramfs)
        if problems:
            raise make_error(problems)
        (workshop.folder / NAME).write_text(json.dumps(make_document(board, verdict), indent=1) + "\n")

    asked = {"without", "storage", "compatibles", "firmware_from", "board"}
    inputs = {"code": CODE, "board": board.model_dump_json(include=asked)}
    return Stage("hardware", inputs, make, tuple(name for name in NEEDS if name in stages))


def load_trees(kernel: Path) -> list[DeviceTree]:
    """The device trees that the stage `kernel` left."""
    blobs = read_tar(kernel / "dtbs.tar")
    paths = [path for path, node in blobs.walk() if node.kind == "file"]
    return [read_device_tree(blobs.read(path), path[1:]) for path in paths]


def load_image(
    board: Board, trees: list[DeviceTree], needs: Mapping[str, Path], toolbox: Toolbox, workshop: Workshop
) -> Image:
    """What the stages left of the image."""
    kernel, root = needs["kernel"], read_tar(needs["root"] / "root.tar")
    if board.firmware_from:
        # Opened and not installed, so that nobody else has seen to their libraries.
        with_libraries(root, PROGRAMS)
    base = f"/usr/lib/modules/{json.loads((kernel / 'kernel.json').read_text())['version']}/"
    lists = {path.removeprefix(base): root.read(path) for path in root.nodes if path.startswith(f"{base}modules.")}
    index = make_index(lists)
    return Image(
        index=read_drivers((kernel / "drivers.json").read_text()),
        modules={name: root.read(base + path) for name, path in index.paths.items() if base + path in root.nodes},
        chains={
            name: [module_name(each) for each in make_load_order([path], index)] for name, path in index.paths.items()
        },
        initramfs=probe_initramfs(needs["initramfs"] / "initrd.img", toolbox, workshop),
        firmware_wanted=json.loads((kernel / "firmware-wanted.json").read_text()),
        supply=Supply(load_owners(root, needs), load_juicer(root, trees), board.without),
    )


def probe_initramfs(path: Path, toolbox: Toolbox, workshop: Workshop) -> set[str]:
    """The names of the modules in an initramfs, as cpio lists it."""
    with workshop.cache.scratch("hardware") as scratch:
        archive = scratch / "initrd.cpio"
        toolbox.run(["zstd", "-q", "-d", path, "-o", archive], folders=[scratch, path.parent])
        listing = toolbox.run(["cpio", "--quiet", "-t", "-F", archive], folders=[scratch])
    names = [line for line in listing.out.splitlines() if line.startswith("modules/")]
    return {module_name(name) for name in names}


def load_owners(root: Tree, needs: Mapping[str, Path]) -> dict[str, str]:
    """Path -> package of every firmware file in the root."""
    owners: dict[str, str] = {}
    for stage in ("packages", "firmware"):
        if stage in needs:
            packages = json.loads((needs[stage] / "owners.json").read_text())
            owners |= {path: name for name, paths in packages.items() for path in paths if path.startswith(START)}
    return {path: owners.get(path, "the recipe") for path in root.nodes if path.startswith(START)}


def load_juicer(root: Tree, trees: list[DeviceTree]) -> frozenset[str]:
    """The firmware files that will be taken from the board's own partitions."""
    paths = {f"{CONFIGS}/{name}.toml" for tree in trees for name in tree.compatibles("/")}
    found = [read_juicer(root.read(path).decode()) for path in sorted(paths) if path in root.nodes]
    return frozenset().union(*found)
