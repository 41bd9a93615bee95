"""The stages of the yocto engine, in order: documents, bitbake, then bitbake's files under the names of every image.

The stages after bitbake have the names and leave the files that publishing, reports and boot know.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from cumulet.core import proc
from cumulet.core.files import locked, sha256_text, write_text
from cumulet_builder import kubernetes
from cumulet_builder.assets import find_assets
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.artefacts import make_seed, make_words
from cumulet_builder.engines.debian.settle import LockChoice
from cumulet_builder.engines.yocto import bitbake, deploy
from cumulet_builder.engines.yocto.computer import make_computer_document
from cumulet_builder.engines.yocto.document import make_document, make_text
from cumulet_builder.engines.yocto.handover import make_digests
from cumulet_builder.engines.yocto.prepare import (
    Folders,
    Prepared,
    check_recipe,
    digest_of_layers,
    prepare,
    settle_lock,
)
from cumulet_builder.engines.yocto.repositories import LayerLock
from cumulet_builder.formats import FORMATS, Bench, DiskInputs
from cumulet_builder.formats.esp import make_command_line
from cumulet_builder.formats.layout import make_layout
from cumulet_builder.modules import module_name
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.load import resolve_recipe
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.toolbox import HostTools, remove_tree
from cumulet_builder.tree import Tree, read_tar, write_tar
from cumulet_builder.user_config import YoctoConfig, load_user_config

CODE = "1"
MODULES = "/usr/lib/modules/"


def make_stages(recipe: Recipe, lock: LayerLock, cache: Cache) -> list[Stage]:
    """Everything from the documents to the files that are published."""
    prepared = prepare(recipe, lock, find_folders())
    return [
        _make_layers_stage(prepared),
        _make_bitbake_stage(prepared, cache.root / "yocto", load_user_config().yocto),
        _make_kernel_stage(recipe),
        _make_shared_stage("initramfs", {"initrd.img": "initrd.img"}),
        _make_packages_stage(),
        _make_root_stage(lock),
        _make_shared_stage("erofs", {"root.erofs": "root.erofs"}),
        _make_image_stage(prepared),
    ]


def find_folders() -> Folders:
    """The data folders of this cumulet."""
    return Folders(find_assets("recipes"), find_assets("layers"))


def prepare_recipe(path: Path, overrides: Sequence[str], lock: Path | None) -> Prepared:
    """A recipe as this engine builds it, whatever engine it names itself. Raises UsageError with every problem."""
    resolved = resolve_recipe(path, (*overrides, "engine=yocto"))
    check_recipe(resolved, find_folders())
    found, _ = settle_lock(path, resolved.recipe, LockChoice(lock, False, None), find_folders())
    return prepare(resolved.recipe, found, find_folders())


def write_documents(prepared: Prepared, folder: Path) -> None:
    """Write `kas.yaml` and `handover/` into a folder: all that kas needs to build the image."""
    target = folder / bitbake.HANDOVER
    remove_tree(target)
    target.mkdir(parents=True)
    for name, tree in prepared.handover.items():
        with (target / name).open("wb") as stream:
            write_tar(tree, stream, prepared.setting.lock.epoch)
    images = prepared.setting.images
    if prepared.archive is not None and images is not None:
        share(prepared.archive, target / images.name)
    about = f"{prepared.recipe.image}: made by cumulet; change the recipe instead"
    write_text(folder / bitbake.DOCUMENT, make_text(make_document(prepared.recipe, prepared.setting), about))


def _make_layers_stage(prepared: Prepared) -> Stage:
    """`kas.yaml` and the archives that our recipes take as their sources."""
    # The place of the layers is this computer's; their content is an input of its own.
    anywhere = replace(prepared.setting, layers=Path("layers"))
    inputs = {
        "code": CODE,
        "document": sha256_text(make_text(make_document(prepared.recipe, anywhere))),
        "layers": digest_of_layers(prepared.setting.layers),
        **make_digests(prepared.handover),
    }
    return Stage("layers", inputs, lambda workshop: write_documents(prepared, workshop.folder))


def _make_bitbake_stage(prepared: Prepared, workspace: Path, config: YoctoConfig) -> Stage:
    """What bitbake leaves, under our names. The workspace is kept: bitbake knows itself what it must do again."""
    machine = prepared.setting.machine
    kernel = "Image.gz" if machine.boot == "phone" else "Image"
    names = deploy.make_names(prepared.recipe.image, machine, kernel)

    def make(workshop: Workshop) -> None:
        workspace.mkdir(parents=True, exist_ok=True)
        with locked(workspace / ".lock", str(workspace)):
            write_documents(prepared, workspace)
            computer = make_text(make_computer_document(config, prepared.setting.lock, workspace))
            write_text(workspace / bitbake.COMPUTER, computer)
            command = make_command(prepared, workspace, config)
            bitbake.run_kas(command, workspace, lambda text: workshop.tell(f"    {text}"))
            workshop.log.write((workspace / bitbake.LOG).read_text(errors="replace"))
            deploy.collect(deploy.make_deploy_folder(workspace / bitbake.BUILD, machine), names, workshop.folder)

    return Stage("bitbake", {"code": CODE}, make, ("layers",))


def make_command(prepared: Prepared, workspace: Path, config: YoctoConfig) -> list[str]:
    """How kas is started on this computer."""
    bitbake.check_kas()
    have_runtime = any(proc.find(name) for name in bitbake.RUNTIMES)
    in_container = bitbake.want_container(config, bitbake.missing_tools(), have_runtime)
    named = [Path(name) for name in (config.clones, config.downloads, config.sstate) if name]
    return bitbake.make_command(workspace, [workspace, prepared.setting.layers, *named], in_container)


def _make_kernel_stage(recipe: Recipe) -> Stage:
    """`vmlinuz`, `config`, `kernel.json`; refuses a kernel on which Kubernetes would not run."""

    def make(workshop: Workshop) -> None:
        source = workshop.needs["bitbake"]
        for name in ("vmlinuz", "config"):
            share(source / name, workshop.folder / name)
        builtin = sorted(module_name(line) for line in (source / "builtin").read_text().splitlines() if line)
        version = deploy.load_facts(source / "facts.json").kernel.release
        facts = {"version": version, "modules": list_modules(read_tar(source / "root.tar")), "builtin": builtin}
        (workshop.folder / "kernel.json").write_text(json.dumps(facts, indent=1))
        config = (workshop.folder / "config").read_text()
        kubernetes.check_kernel(recipe, config, facts["modules"], facts["builtin"])

    distribution = recipe.kubernetes.distribution if recipe.kubernetes else "none"
    return Stage("kernel", {"code": CODE, "checked for": distribution}, make, ("bitbake",))


def list_modules(tree: Tree) -> list[str]:
    """The names of the kernel modules in a root."""
    return sorted(module_name(path) for path in tree.nodes if path.startswith(MODULES) and "/kernel/" in path)


def _make_packages_stage() -> Stage:
    """`owners.json`: package -> paths; `facts.json`: what each package is."""

    def make(workshop: Workshop) -> None:
        source = workshop.needs["bitbake"] / "facts.json"
        owners = {each.name: list(each.files) for each in deploy.load_facts(source).packages}
        (workshop.folder / "owners.json").write_text(json.dumps(owners, sort_keys=True))
        share(source, workshop.folder / "facts.json")

    return Stage("packages", {"code": CODE}, make, ("bitbake",))


def _make_root_stage(lock: LayerLock) -> Stage:
    """`root.tar`: the tree of the root partition, in the form of every tree of ours."""

    def make(workshop: Workshop) -> None:
        with (workshop.folder / "root.tar").open("wb") as stream:
            write_tar(read_tar(workshop.needs["bitbake"] / "root.tar"), stream, lock.epoch)

    return Stage("root", {"code": CODE, "epoch": str(lock.epoch)}, make, ("bitbake",))


def _make_shared_stage(name: str, files: dict[str, str]) -> Stage:
    """Files of bitbake's, as they are: our name -> the name in the stage `bitbake`."""

    def make(workshop: Workshop) -> None:
        for ours, theirs in files.items():
            share(workshop.needs["bitbake"] / theirs, workshop.folder / ours)

    return Stage(name, {"code": CODE}, make, ("bitbake",))


def _make_image_stage(prepared: Prepared) -> Stage:
    """The disk, checked, and every other format that the recipe asks for, with `cmdline.txt`."""
    recipe = prepared.recipe
    words = make_words(recipe)
    layout = make_layout(recipe.disk, recipe.board.architecture, make_seed(recipe))
    inputs = {"code": CODE, "formats": " ".join(recipe.formats), "command line": " ".join(words)}

    def make(workshop: Workshop) -> None:
        disk = workshop.folder / "disk.img"
        share(workshop.needs["bitbake"] / "disk.img", disk)
        deploy.check_disk(disk, layout, prepared.setting.machine)
        bench = Bench(HostTools(), workshop.folder, workshop.log)
        for name in _without_disk(recipe.formats):
            FORMATS[name](make_inputs(recipe, workshop), bench)
        if not {"disk", "blockmap"} & set(recipe.formats):
            disk.unlink()
        (workshop.folder / "cmdline.txt").write_text(make_command_line(words, "root-a") + "\n")

    needs = ("bitbake", "root", "erofs", "kernel", "initramfs")
    return Stage("image", inputs, make, needs)


def _without_disk(formats: Sequence[str]) -> list[str]:
    return [name for name in FORMATS if name in formats and name != "disk"]


def make_inputs(recipe: Recipe, workshop: Workshop) -> DiskInputs:
    """The parts of the image. What only the disk is made of, bitbake has put into it already."""
    needs = workshop.needs
    return DiskInputs(
        image=recipe.image,
        architecture=recipe.board.architecture,
        seed=make_seed(recipe),
        version="",
        epoch=workshop.epoch,
        sizes=recipe.disk,
        root=needs["erofs"] / "root.erofs",
        root_tree=needs["root"] / "root.tar",
        data_tree=None,
        kernel=needs["kernel"] / "vmlinuz",
        initramfs=needs["initramfs"] / "initrd.img",
        device_trees=needs["root"] / "root.tar",
        boot_loader=needs["kernel"] / "vmlinuz",
        command_line=make_words(recipe),
    )


def share(source: Path, target: Path) -> None:
    """The same file at a second place; a copy where the file system cannot. Results of stages are never changed."""
    try:
        os.link(source, target)
    except OSError:
        deploy.copy_sparse(source, target)
