"""The last stages: the root file system as erofs, then every format that the recipe asks for."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from debian.debfile import DebFile

from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import sha256_file
from cumulet_builder.cache import Cache
from cumulet_builder.copyrights import write_copyrights
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.formats import Bench, DiskInputs, choose_writers, verity
from cumulet_builder.formats.bootimg import ROOT_KEY
from cumulet_builder.formats.disk import check_root_fits
from cumulet_builder.formats.esp import BOOT_LOADERS, make_command_line
from cumulet_builder.formats.layout import make_uuid
from cumulet_builder.formats.root import OPTIONS, RootOptions, write_root
from cumulet_builder.formats.secureboot import STUBS
from cumulet_builder.opened import load_package_file
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.toolbox import Toolbox

CODE = "3"
ROOT = "root.erofs"
# Huge pages make the kernel set tens of megabytes aside for their sake, which a phone has better uses for.
EVERYWHERE = ("quiet", "panic=10", "transparent_hugepage=never")


def make_erofs_stage(recipe: Recipe, lock: Lock, toolbox: Callable[[], Toolbox]) -> Stage:
    """`root.erofs`: the compressed root partition."""
    compression = recipe.disk.compression
    seed = make_seed(recipe)
    inputs = {"code": CODE, "compression": f"{compression} {' '.join(OPTIONS[compression])}", "seed": seed}
    if recipe.disk.verity:
        inputs["verity"] = "yes"

    def make(workshop: Workshop) -> None:
        options = RootOptions(compression, make_uuid(seed, "root"), lock.epoch)
        image = workshop.folder / ROOT
        write_root(workshop.needs["root"] / "root.tar", image, options, toolbox(), workshop.log)
        if recipe.disk.verity:
            verity.write_tree(image, seed, make_uuid(seed, "verity"), toolbox(), workshop.log)

    return Stage("erofs", inputs, make, ("tools", "root"))


@dataclass(frozen=True)
class LoaderSource:
    """Where a board's own boot loader is: a file by itself, or `path` in the package file with SHA-256 `package`."""

    file: Path
    package: str
    path: str

    @property
    def digest(self) -> str:
        """What decides its content."""
        return f"{self.package} {self.path}" if self.package else sha256_file(self.file)

    def load(self, name: str) -> bytes:
        """Its content; `name` names the package in errors."""
        return load_package_file(self.file, self.path, name) if self.package else self.file.read_bytes()


@dataclass(frozen=True)
class Sources:
    """The boot loaders of an image: the package of systemd-boot, and the board's own or None."""

    efi: LockedPackage
    loader: LoaderSource | None

    @property
    def files(self) -> tuple[str, ...]:
        """The package files that are read, by their SHA-256."""
        own = (self.loader.package,) if self.loader and self.loader.package else ()
        return (self.efi.sha256, *own)


@dataclass(frozen=True)
class Toolboxes:
    """The tools of every image, and those that only some formats need or None."""

    every: Callable[[], Toolbox]
    formats: Callable[[], Toolbox] | None = None


def make_image_stage(recipe: Recipe, lock: Lock, cache: Cache, sources: Sources, toolboxes: Toolboxes) -> Stage:
    """The disk and every other format, with `cmdline.txt` for those who boot the kernel directly."""
    board, words = recipe.board, make_words(recipe)
    writers = choose_writers(board.boot, recipe.formats)
    inputs = {
        "code": CODE,
        "formats": " ".join(writers),
        "sizes": recipe.disk.model_dump_json(),
        "command line": " ".join(words),
        "boot loader": " ".join([sources.efi.sha256, *([sources.loader.digest] if sources.loader else [])]),
        "boot": board.boot.model_dump_json(exclude={"loader": {"file"}}),
        "storage": board.storage.model_dump_json(),
        "seed": make_seed(recipe),
    }
    if recipe.secure_boot is not None:
        # Whoever has another key gets another image; the key itself is in none.
        inputs["certificate"] = sha256_file(load_user_file(recipe.secure_boot.certificate, "secure_boot.certificate"))
        load_user_file(recipe.secure_boot.key, "secure_boot.key")
    optional = {
        "kubernetes": recipe.kubernetes is not None,
        "hardware": bool(board.kernel.device_trees),
        "format-tools": toolboxes.formats is not None,
    }
    needs = ["tools", "root", "erofs", "kernel", "initramfs", *(name for name, there in optional.items() if there)]

    def make(workshop: Workshop) -> None:
        with workshop.cache.scratch("image") as scratch:
            parts = make_inputs(recipe, lock, workshop, write_loaders(recipe, sources, cache, scratch))
            if recipe.secure_boot is not None:
                stub = scratch / "stub.efi"
                stub.write_bytes(load_efi(cache.file(sources.efi.sha256), STUBS[recipe.board.architecture]))
                parts = replace(parts, secure_boot=recipe.secure_boot, stub=stub)
            check_root_fits(parts)
            formats = toolboxes.formats() if toolboxes.formats else None
            for write in writers.values():
                write(parts, Bench(toolboxes.every(), workshop.folder, workshop.log, formats))
        write_copyrights([cache.file(digest) for digest in sources.files], workshop.folder)
        key = ROOT_KEY if board.boot.method == "android" else "root"
        line = make_command_line(parts.command_line, "root-a", key)
        (workshop.folder / "cmdline.txt").write_text(f"{line}\n")

    return Stage("image", inputs, make, tuple(needs), sources.files)


def write_loaders(recipe: Recipe, sources: Sources, cache: Cache, folder: Path) -> tuple[Path, Path | None]:
    """Files in `folder` with the EFI program of systemd-boot and the board's own boot loader, if it has one."""
    efi, own = folder / "loader.efi", folder / "loader.bin"
    efi.write_bytes(load_efi(cache.file(sources.efi.sha256), BOOT_LOADERS[recipe.board.architecture][0]))
    if sources.loader is None:
        return efi, None
    loader = recipe.board.boot.loader
    own.write_bytes(sources.loader.load(loader.package or "" if loader else ""))
    return efi, own


def make_inputs(recipe: Recipe, lock: Lock, workshop: Workshop, loaders: tuple[Path, Path | None]) -> DiskInputs:
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
        boot_loader=loaders[0],
        command_line=(*make_words(recipe), *verity.load_words(needs["erofs"])),
        boot=recipe.board.boot,
        storage=recipe.board.storage,
        loader=loaders[1],
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


def load_user_file(name: str, key: str) -> Path:
    """A file of this computer that a recipe names. Raises UsageError naming the key if it is not there."""
    path = Path(name)
    if not path.is_file():
        raise UsageError(f"{key}: {name}: no such file", hint="relative paths count from the file that names them")
    return path


def load_efi(deb: Path, wanted: str) -> bytes:
    """An EFI program in the package file of systemd-boot."""
    with DebFile(str(deb)) as package:
        archive = package.data.tgz()
        for member in archive:
            if member.name.endswith(wanted.rsplit("/", 1)[-1]):
                source = archive.extractfile(member)
                return source.read() if source else b""
    raise ToolError(f"{deb.name}: no {wanted} in it", hint="the package must be systemd-boot-efi")
