"""From a container's document to a published archive: the top of this part, as a list of verbs."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import dataclass, replace
from pathlib import Path

from cumulet.core.files import locked, publishing, sha256_file
from cumulet.kubernetes.layout import make_image_name
from cumulet_builder.build import Reporter
from cumulet_builder.cache import open_cache
from cumulet_builder.containers.model import (
    ContainerRecipe,
    find_pins_file,
    find_version,
    load_container,
    make_request,
)
from cumulet_builder.containers.tree import drop_paths, make_base_tree
from cumulet_builder.engines.debian.fetch import Sources, fetch
from cumulet_builder.engines.debian.lock import Lock, write_lock
from cumulet_builder.engines.debian.packages import make_package_stages, make_tools_stage
from cumulet_builder.engines.debian.resolve import host_architecture
from cumulet_builder.engines.debian.settle import LockChoice, settle_lock
from cumulet_builder.kubernetes.oci import Layer, list_images, make_image, make_layer, write_archive
from cumulet_builder.plan import Stage, Workshop, make_plan
from cumulet_builder.recipe.model import Trim
from cumulet_builder.run_plan import Run, run_plan
from cumulet_builder.sdk_layer import make_sdk_stage
from cumulet_builder.settings import Settings
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, read_tar, write_tar

CODE = "1"
ARCHIVE = "image.oci.tar"
LEVEL = "-12"
SETTINGS = {
    "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG=C.UTF-8", "PYTHONUNBUFFERED=1"],
    "Entrypoint": ["/usr/bin/python3"],
    "WorkingDir": "/",
}


@dataclass(frozen=True)
class Built:
    """A published container image: its folder, its name, the digest of its manifest."""

    folder: Path
    name: str
    digest: str


def build(path: Path, architecture: str, settings: Settings, reporter: Reporter) -> Built:
    """Build the container of a document for an architecture into `settings.out / <container>-<architecture>`."""
    recipe = load_container(path)
    pins = find_pins_file(recipe, path)
    cache = open_cache(settings.cache.resolve())
    request = make_request(recipe, architecture, host_architecture(platform.machine()), pins)
    image = f"{recipe.container}-{architecture}"
    choice = LockChoice(settings.lock, settings.update, settings.mirror, pins)
    lock, origin = settle_lock(path, image, request, choice, cache)
    reporter.say(f"{image}: lock: {origin}")
    steps = make_plan(make_stages(recipe, lock), cache, {})
    folder = settings.out.absolute() / image
    with locked(folder.parent / f".{folder.name}.lock", str(folder)), cache.in_use():
        wanted = {digest for step in steps if step.run for digest in step.stage.files}
        fetch(lock, wanted, cache, Sources(settings.mirror, settings.vendor), reporter.download())
        logs = cache.root / "logs" / f"{image}.log"
        logs.parent.mkdir(parents=True, exist_ok=True)
        with logs.open("w") as log:
            folders = run_plan(steps, Run(cache, log, lock.epoch, reporter.step, reporter.say))
        return publish(folders["container"], lock, folder)


def make_stages(recipe: ContainerRecipe, lock: Lock) -> list[Stage]:
    """The stages of a device's root, as far as a container needs them, and the container itself."""
    stages = [
        make_tools_stage(lock),
        *make_package_stages(Trim(), lock),
        # On a release whose Python the SDK's packages are not pinned for, apps bring what they need.
        make_sdk_stage(lock, recipe.lock is None),
        make_container_stage(recipe, lock),
    ]
    return [
        stage if stage.name == "tools" else replace(stage, inputs={**stage.inputs, "epoch": str(lock.epoch)})
        for stage in stages
    ]


def make_container_stage(recipe: ContainerRecipe, lock: Lock) -> Stage:
    """`image.oci.tar`: Debian's packages as one layer, Python's on top of it as another."""
    version = find_version(lock.request.wheels, recipe.names_version)
    name = make_image_name(recipe.container, version)
    inputs = {
        "code": CODE,
        "name": name,
        "packages": " ".join(recipe.packages),
        "drop": "\n".join(recipe.drop),
        "level": LEVEL,
        "settings": json.dumps(SETTINGS, sort_keys=True),
    }

    def make(workshop: Workshop) -> None:
        root = read_tar(workshop.needs["packages"] / "root.tar")
        owners = json.loads((workshop.needs["packages"] / "owners.json").read_text())
        base = make_base_tree(root, owners, ["python3", *recipe.packages])
        wheels = read_tar(workshop.needs["sdk"] / "sdk.tar")
        layers = [pack_layer(drop_paths(tree, recipe.drop), workshop) for tree in (base, wheels)]
        image = make_image(name, layers, lock.request.architecture, SETTINGS)
        with (workshop.folder / ARCHIVE).open("wb") as stream:
            write_archive([image], stream, workshop.epoch)
        for layer in layers:
            Path(str(layer.blob.content)).unlink()

    return Stage("container", inputs, make, ("tools", "packages", "sdk"))


def pack_layer(tree: Tree, workshop: Workshop) -> Layer:
    """A tree as a compressed layer in the stage's folder."""
    tar = workshop.folder / "layer.tar"
    with tar.open("wb") as stream:
        write_tar(tree, stream, workshop.epoch)
    stored = workshop.folder / "layer.tar.zst"
    toolbox = Toolbox(workshop.needs["tools"] / "tree")
    toolbox.run(["zstd", "-q", LEVEL, "-f", tar, "-o", stored], folders=[workshop.folder], log=workshop.log)
    layer = make_layer(tar, stored, "zstd")
    tar.unlink()
    kept = stored.rename(workshop.folder / layer.blob.digest.removeprefix("sha256:"))
    return replace(layer, blob=replace(layer.blob, content=kept))


def publish(stage: Path, lock: Lock, folder: Path) -> Built:
    """The archive, its name and digest, and the lock, in the published folder: whole or not at all."""
    ((name, digest),) = list_images(stage / ARCHIVE).items()
    with publishing(folder) as made:
        os.link(stage / ARCHIVE, made / ARCHIVE)
        write_lock(lock, made / "lock.json")
        about = {
            "version": 1,
            "name": name,
            "digest": digest,
            "architecture": lock.request.architecture,
            "size": (made / ARCHIVE).stat().st_size,
            "wheels": {wheel.name: wheel.version for wheel in lock.wheels},
        }
        (made / "container.json").write_text(json.dumps(about, indent=1) + "\n")
        files = sorted(path for path in made.iterdir())
        (made / "sha256sums").write_text("".join(f"{sha256_file(path)}  {path.name}\n" for path in files))
    return Built(folder, name, digest)
