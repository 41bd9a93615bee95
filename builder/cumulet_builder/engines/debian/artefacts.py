"""The last stages: the root file system as erofs, then every format that the recipe asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from debian.debfile import DebFile

from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache
from cumulet_builder.copyrights import write_copyrights
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.formats import FORMATS, Bench, DiskInputs
from cumulet_builder.formats.disk import check_root_fits
from cumulet_builder.formats.esp import BOOT_LOADERS, make_command_line
from cumulet_builder.formats.layout import make_uuid
from cumulet_builder.formats.root import OPTIONS, RootOptions, write_root
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.toolbox import Toolbox

CODE = "2"
ROOT = "root.erofs"
# Huge pages make the kernel set tens of megabytes aside for their sake, which a phone has better uses for.
EVERYWHERE = ("quiet", "panic=10", "transparent_hugepage=never")


def make_erofs_stage(recipe: Recipe, lock: Lock, toolbox: Callable[[], Toolbox]) -> Stage:
    """`root.erofs`: the compressed root partition."""
    compression = recipe.disk.compression
    seed = make_seed(recipe)
    inputs = {"code": CODE, "compression": f"{compression} {' '.join(OPTIONS[compression])}", "seed": seed}

    def make(workshop: Workshop) -> None:
        options = RootOptions(compression, make_uuid(seed, "root"), lock.epoch)
        write_root(workshop.needs["root"] / "root.tar", workshop.folder / ROOT, options, toolbox(), workshop.log)

    return Stage("erofs", inputs, make, ("tools", "root"))


def make_image_stage(
    recipe: Recipe, lock: Lock, cache: Cache, loader: LockedPackage, toolbox: Callable[[], Toolbox]
) -> Stage:
    """The disk and every other format, with `cmdline.txt` for those who boot the kernel directly."""
    words = make_words(recipe)
    inputs = {
        "code": CODE,
        "formats": " ".join(recipe.formats),
        "sizes": recipe.disk.model_dump_json(),
        "command line": " ".join(words),
        "boot loader": loader.sha256,
        "seed": make_seed(recipe),
    }
    needs = ["tools", "root", "erofs", "kernel", "initramfs", *(["kubernetes"] if recipe.kubernetes else [])]

    def make(workshop: Workshop) -> None:
        with workshop.cache.scratch("image") as scratch:
            boot_loader = scratch / "loader.efi"
            boot_loader.write_bytes(load_boot_loader(cache.file(loader.sha256), recipe.board.architecture))
            parts = make_inputs(recipe, lock, workshop, boot_loader)
            check_root_fits(parts)
            for name in FORMATS:
                if name in recipe.formats:
                    FORMATS[name](parts, Bench(toolbox(), workshop.folder, workshop.log))
        write_copyrights([cache.file(loader.sha256)], workshop.folder)
        (workshop.folder / "cmdline.txt").write_text(make_command_line(words, "root-a") + "\n")

    return Stage("image", inputs, make, tuple(needs), (loader.sha256,))


def make_inputs(recipe: Recipe, lock: Lock, workshop: Workshop, boot_loader: Path) -> DiskInputs:
    """The parts of the image, from the stages before."""
    needs = workshop.needs
    data = needs["kubernetes"] / "data.tar" if "kubernetes" in needs else None
    release = json.loads((needs["kernel"] / "kernel.json").read_text())["version"]
    return DiskInputs(
        image=recipe.image,
        architecture=recipe.board.architecture,
        seed=make_seed(recipe),
        version=release,
        epoch=lock.epoch,
        sizes=recipe.disk,
        root=needs["erofs"] / ROOT,
        root_tree=needs["root"] / "root.tar",
        data_tree=data if data and data.exists() else None,
        kernel=needs["kernel"] / "vmlinuz",
        initramfs=needs["initramfs"] / "initrd.img",
        device_trees=needs["kernel"] / "dtbs.tar",
        boot_loader=boot_loader,
        command_line=make_words(recipe),
    )


def make_words(recipe: Recipe) -> tuple[str, ...]:
    """The kernel's command line without its root."""
    console = recipe.board.qemu.console if recipe.board.qemu else ""
    words = recipe.board.kernel.command_line
    if console and not any(word.startswith("console=") for word in words):
        words = (*words, f"console={console}")
    return (*words, *EVERYWHERE)


def make_seed(recipe: Recipe) -> str:
    """What every identifier of the image comes from: its name, so that a new lock keeps them."""
    return f"cumulet {recipe.image}"


def load_boot_loader(deb: Path, architecture: str) -> bytes:
    """The EFI program in the package file of systemd-boot."""
    wanted = BOOT_LOADERS["arm64" if architecture == "arm64" else "amd64"][0]
    with DebFile(str(deb)) as package:
        archive = package.data.tgz()
        for member in archive:
            if member.name.endswith(wanted.rsplit("/", 1)[-1]):
                source = archive.extractfile(member)
                return source.read() if source else b""
    raise ToolError(f"{deb.name}: no {wanted} in it", hint="the package must be systemd-boot-efi")
