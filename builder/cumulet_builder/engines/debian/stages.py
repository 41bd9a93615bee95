"""The stages of the Debian engine, in order: the list to read first."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_file
from cumulet_builder import firmware, initramfs, kernel, kubernetes
from cumulet_builder.assets import find_assets
from cumulet_builder.cache import Cache, make_key
from cumulet_builder.engines.debian.artefacts import (
    LoaderSource,
    Sources,
    Toolboxes,
    load_user_file,
    make_erofs_stage,
    make_image_stage,
)
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.engines.debian.packages import make_format_tools_stages, make_package_stages, make_tools_stage
from cumulet_builder.formats import verity
from cumulet_builder.hardware import juicer
from cumulet_builder.hardware import stage as hardware
from cumulet_builder.kubernetes.surroundings import Surroundings
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.rootfs import make_root_stage
from cumulet_builder.sdk_layer import make_sdk_stage
from cumulet_builder.toolbox import Toolbox

# The others date what they write by the lock. These do not, and are kept when only the date is another.
UNDATED = ("tools", "format-tools", "programs")


def make_stages(recipe: Recipe, lock: Lock, cache: Cache) -> list[Stage]:
    """Everything from package files to the files that are published."""
    tools = make_tools_stage(lock)
    toolbox = _toolbox_of(tools, cache)
    stages = [
        tools,
        *make_package_stages(recipe.trim, lock),
        _make_kernel_stage(recipe, lock, cache, toolbox),
        _make_initramfs_stage(recipe, lock, cache, toolbox),
        *_make_firmware_stages(recipe, lock, cache),
        *_make_juicer_stages(recipe, lock, cache),
        *kubernetes.make_stages(recipe, _surroundings(toolbox)),
        make_sdk_stage(lock, recipe.sdk),
        make_root_stage(recipe, lock),
        make_erofs_stage(recipe, lock, toolbox),
    ]
    if recipe.board.kernel.device_trees:
        stages.append(hardware.make_stage(recipe.board, [stage.name for stage in stages], toolbox))
    stages += _make_image_stages(recipe, lock, cache, toolbox)
    return [stage if stage.name in UNDATED else _dated(stage, lock.epoch) for stage in stages]


def _dated(stage: Stage, epoch: int) -> Stage:
    return replace(stage, inputs={**stage.inputs, "epoch": str(epoch)})


def find_package(lock: Lock, start: str) -> LockedPackage:
    """The `boot` package whose name starts with `start`. Raises UsageError if there is none."""
    for package in lock.of("boot"):
        if package.name.startswith(start):
            return package
    raise UsageError(f"the lock of {lock.image} has no package {start}", hint="make it again: cumulet lock RECIPE")


def _toolbox_of(tools: Stage, cache: Cache) -> Callable[[], Toolbox]:
    folder: Path = cache.stage(tools.name, make_key(tools.name, tools.inputs, {})) / "tree"
    return lambda: Toolbox(folder)


def _surroundings(toolbox: Callable[[], Toolbox]) -> Surroundings:
    return Surroundings(find_assets("recipes"), lambda _: toolbox(), ("tools",))


def _make_image_stages(recipe: Recipe, lock: Lock, cache: Cache, toolbox: Callable[[], Toolbox]) -> list[Stage]:
    more = make_format_tools_stages(lock)
    formats = _toolbox_of(more[0], cache) if more else None
    sources = Sources(find_package(lock, "systemd-boot-efi"), find_loader(recipe, lock, cache))
    return [*more, make_image_stage(recipe, lock, cache, sources, Toolboxes(toolbox, formats))]


def find_loader(recipe: Recipe, lock: Lock, cache: Cache) -> LoaderSource | None:
    """The board's own boot loader: from its package, or a file that the recipe names."""
    loader = recipe.board.boot.loader
    if loader is None:
        return None
    if loader.file is not None:
        return LoaderSource(load_user_file(loader.file, "board.boot.loader.file"), "", "")
    package = next((each for each in lock.of("boot") if each.name == loader.package), None)
    if package is None or loader.path is None:
        text = f"board {recipe.board.board}: boot.loader names neither a file nor a package with a path"
        raise UsageError(text, hint="board.boot.loader.file=./u-boot.bin")
    return LoaderSource(cache.file(package.sha256), package.sha256, loader.path)


def _make_kernel_stage(recipe: Recipe, lock: Lock, cache: Cache, toolbox: Callable[[], Toolbox]) -> Stage:
    board = recipe.board.kernel
    if board.file is not None:
        deb = load_user_file(board.file, "board.kernel.file")
        digest = sha256_file(deb)
    else:
        digest = find_package(lock, "linux-image-").sha256
        deb = cache.file(digest)
    choice = kernel.KernelChoice(
        asker=recipe.image,
        modules=(
            *board.modules,
            *recipe.modules,
            *board.initramfs_modules,
            *initramfs.BASE_MODULES,
            *(verity.MODULES if recipe.disk.verity else ()),
            *kubernetes.needed_modules(recipe),
        ),
        device_trees=board.device_trees,
        follow_device_trees=board.device_tree_modules,
        without=recipe.board.without,
    )
    stage = kernel.make_stage(choice, deb, digest, toolbox, needs=("tools",))

    def make(workshop: Workshop) -> None:
        stage.make(workshop)
        facts = json.loads((workshop.folder / "kernel.json").read_text())
        config = (workshop.folder / "config").read_text()
        kubernetes.check_kernel(recipe, config, facts["modules"], facts["builtin"])

    distribution = recipe.kubernetes.distribution if recipe.kubernetes else "none"
    inputs = {**stage.inputs, "checked for": distribution}
    return replace(stage, inputs=inputs, make=make, files=() if board.file is not None else (digest,))


def _make_juicer_stages(recipe: Recipe, lock: Lock, cache: Cache) -> list[Stage]:
    if not recipe.board.firmware_from:
        return []
    wanted = [each for each in lock.of("boot") if each.name in juicer.PACKAGES]
    packages = [firmware.FirmwarePackage(each.name, cache.file(each.sha256), each.sha256) for each in wanted]
    return [juicer.make_stage(packages, recipe.board.compatibles)]


def _make_firmware_stages(recipe: Recipe, lock: Lock, cache: Cache) -> list[Stage]:
    board = recipe.board
    if not board.firmware:
        return []
    wanted = [each for each in lock.of("boot") if each.name in board.firmware_packages]
    packages = [firmware.FirmwarePackage(each.name, cache.file(each.sha256), each.sha256) for each in wanted]
    return [firmware.make_stage(packages, board.firmware, f"board {board.board}")]


def _make_initramfs_stage(recipe: Recipe, lock: Lock, cache: Cache, toolbox: Callable[[], Toolbox]) -> Stage:
    package = find_package(lock, "busybox-static")
    storage = recipe.board.storage
    choice = initramfs.InitramfsChoice(
        asker=recipe.image,
        modules=(*recipe.board.kernel.initramfs_modules, *(verity.MODULES if recipe.disk.verity else ())),
        verity=recipe.disk.verity,
        inside=storage.inside or "",
        sector=storage.sector_size,
    )
    stage = initramfs.make_stage(choice, cache.file(package.sha256), package.sha256, toolbox, needs=("tools", "kernel"))
    return replace(stage, files=(package.sha256,))
