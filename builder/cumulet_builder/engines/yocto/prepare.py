"""Everything that is read before a build of the yocto engine is planned: machines, pins, files, the lock."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.documents import make_error
from cumulet.core.errors import Problem, UsageError
from cumulet.core.files import sha256_file
from cumulet_builder.engines.debian.artefacts import make_words
from cumulet_builder.engines.debian.settle import LockChoice, lock_beside
from cumulet_builder.engines.yocto import repositories
from cumulet_builder.engines.yocto.checks import K3S, Known, find_problems
from cumulet_builder.engines.yocto.document import Images, Setting, needed_layers
from cumulet_builder.engines.yocto.handover import make_handover
from cumulet_builder.engines.yocto.machines import load_machines
from cumulet_builder.engines.yocto.repositories import LayerLock
from cumulet_builder.kubernetes.k3s import check_settings, find_file_problems, make_url
from cumulet_builder.kubernetes.pins import K3sPin, find_pin, load_flags, load_pin_file
from cumulet_builder.kubernetes.surroundings import make_cluster
from cumulet_builder.recipe.load import Resolved
from cumulet_builder.recipe.model import Kubernetes, Recipe
from cumulet_builder.tree import Tree


@dataclass(frozen=True)
class Folders:
    """The data folders: `recipes` and `layers`."""

    recipes: Path
    layers: Path


@dataclass(frozen=True)
class Prepared:
    """A recipe with everything that its kas document and its handover are made of.

    `archive` is the file with Kubernetes' images, if it is one of this computer.
    """

    recipe: Recipe
    setting: Setting
    handover: Mapping[str, Tree]
    archive: Path | None = None


def check_recipe(resolved: Resolved, folders: Folders) -> None:
    """Raise UsageError with everything in a recipe that this engine cannot build."""
    known = Known(frozenset(load_machines(folders.layers)), frozenset(repositories.known_fragments(folders.recipes)))
    problems = find_problems(resolved, known)
    if problems:
        raise make_error(problems)


def make_lock(recipe: Recipe, update: bool, folders: Folders) -> LayerLock:
    """A recipe's repositories at cumulet's own commits, or with `update` at the newest of their branches."""
    machine = load_machines(folders.layers)[recipe.board.board]
    fragments = repositories.load_fragments(folders.recipes, needed_layers(recipe, machine))
    own = repositories.make_lock(recipe.image, fragments, *repositories.load_pins(folders.recipes))
    return repositories.fetch_heads(own, int(time.time())) if update else own


def settle_lock(path: Path, recipe: Recipe, choice: LockChoice, folders: Folders) -> tuple[LayerLock, str]:
    """The lock and where it comes from: the one named, the one beside the recipe, or cumulet's own commits."""
    named = choice.file or (lock_beside(path) if lock_beside(path).exists() and not choice.update else None)
    if named:
        lock = repositories.load_lock(named)
        _check_lock(lock, make_lock(recipe, False, folders), named, path)
        return lock, str(named)
    origin = "the newest commits" if choice.update else "the commits of this cumulet"
    return make_lock(recipe, choice.update, folders), origin


def _check_lock(lock: LayerLock, own: LayerLock, file: Path, recipe: Path) -> None:
    """A lock is of a recipe if it has its repositories and layers; which commits is its own business."""
    have = {(each.name, *each.layers) for each in lock.repositories}
    want = {(each.name, *each.layers) for each in own.repositories}
    changed = [f"+{name}" for name, *_ in sorted(want - have)] + [f"-{name}" for name, *_ in sorted(have - want)]
    if changed:
        raise UsageError(
            f"{file}: the lock is not of this recipe: repositories {' '.join(changed)}",
            hint=f"make it again: cumulet lock {recipe}",
        )


def prepare(recipe: Recipe, lock: LayerLock, folders: Folders) -> Prepared:
    """Read what a recipe needs. Raises UsageError for a pin without checksums, missing files, unknown settings."""
    machine = load_machines(folders.layers)[recipe.board.board]
    images, archive = _find_images(recipe, folders.recipes)
    setting = Setting(machine, lock, folders.layers, images)
    return Prepared(recipe, setting, make_handover(recipe, make_words(recipe)), archive)


def _find_images(recipe: Recipe, recipes: Path) -> tuple[Images | None, Path | None]:
    settings = recipe.kubernetes
    if settings is None:
        return None, None
    path = find_pin(recipes, "k3s", K3S)
    pin = load_pin_file(path, "k3s")
    if not isinstance(pin, K3sPin):
        raise UsageError(f"{path}: not a pin of k3s")
    found = check_settings(load_flags(path.parent / pin.flags), make_cluster(settings))
    if found:
        raise make_error(found)
    if settings.source == "file":
        return _file_images(settings)
    assets = pin.assets[recipe.board.architecture]
    if assets.images_sha256 is None:
        raise UsageError(
            f"{path}: no SHA-256 of {assets.images}, so a download could not be verified",
            hint=f"cumulet pin k3s {pin.release}, or kubernetes.source: file",
        )
    digest = assets.images_sha256
    return Images(make_url(pin, assets.images), digest, f"{digest[:16]}-{assets.images}"), None


def _file_images(settings: Kubernetes) -> tuple[Images, Path]:
    """The program is compiled: of the two files of `source: file` only the images are read."""
    paths: dict[str, Path] = {what: Path(named) for what, named in settings.files.items() if what == "images"}
    place = "kubernetes.files.images"
    problems = [each for each in find_file_problems(paths) if each.file == place] or _unnamed(paths, place)
    if problems:
        raise make_error(problems)
    archive = paths["images"]
    digest = sha256_file(archive)
    name = f"{digest[:16]}-{archive.name}"
    return Images(f"file://{name}", digest, name), archive


def _unnamed(paths: Mapping[str, Path], place: str) -> list[Problem]:
    return [] if paths else [Problem(place, 0, 0, "is not named", "files: {images: PATH}")]


def digest_of_layers(layers: Path) -> str:
    """A digest of every file of our layers: a change of one is a change of the build."""
    digest = hashlib.sha256()
    for path in sorted(layers.glob("meta-*/**/*")):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(layers)} {sha256_file(path)}\n".encode())
    return digest.hexdigest()
