"""From a recipe to a published image: the top of the build tool, as a list of verbs."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cumulet.core.errors import UsageError
from cumulet.core.files import locked, write_text
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian.fetch import Sources, fetch, vendor
from cumulet_builder.engines.debian.lock import Lock, Request
from cumulet_builder.engines.debian.resolve import host_architecture, make_request
from cumulet_builder.engines.debian.settle import LockChoice, resolve, settle_lock
from cumulet_builder.engines.locks import AnyLock
from cumulet_builder.engines.table import find_engine
from cumulet_builder.engines.yocto import prepare as yocto
from cumulet_builder.engines.yocto.stages import find_folders
from cumulet_builder.kubernetes import needed_packages
from cumulet_builder.plan import Stage, Step, make_plan
from cumulet_builder.publish import Image, Result, clear_up, digest_of, is_published, publish
from cumulet_builder.radio import make_notes
from cumulet_builder.recipe.boards import check_supplied
from cumulet_builder.recipe.load import Resolved, resolve_recipe
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.run_plan import Run, run_plan
from cumulet_builder.settings import Settings


class Reporter(Protocol):
    """What the command line shows of a build's progress."""

    def say(self, text: str) -> None:
        """One line about what was decided."""

    def step(self, step: Step, seconds: float) -> None:
        """A stage starts (seconds below 0) or has ended."""

    def download(self) -> Callable[..., None] | None:
        """What is told of downloads, or None."""


@dataclass(frozen=True)
class Planned:
    """A recipe with its lock, stages and plan: all that is decided before anything runs."""

    recipe: Recipe
    lock: AnyLock
    lock_origin: str
    stages: tuple[Stage, ...]
    steps: tuple[Step, ...]
    cache: Cache
    fragments: tuple[Path, ...]


def plan(recipe_path: Path, settings: Settings) -> Planned:
    """Decide everything about a build; only a missing lock touches the network."""
    resolved = resolve_recipe(recipe_path, settings.overrides)
    recipe = resolved.recipe
    engine = find_engine(recipe)
    cache = open_cache(settings.cache.resolve())
    choice = LockChoice(settings.lock, settings.update, settings.mirror)
    lock, origin = SETTLE[recipe.engine](recipe_path, resolved, choice, cache)
    stages = tuple(engine(recipe, lock, cache))
    steps = tuple(make_plan(stages, cache, load_last(cache, recipe.image)))
    return Planned(recipe, lock, origin, stages, steps, cache, resolved.files)


def _settle_packages(path: Path, resolved: Resolved, choice: LockChoice, cache: Cache) -> tuple[AnyLock, str]:
    return settle_lock(path, resolved.recipe.image, _make_request(resolved.recipe), choice, cache)


def _settle_layers(path: Path, resolved: Resolved, choice: LockChoice, cache: Cache) -> tuple[AnyLock, str]:
    yocto.check_recipe(resolved, find_folders())
    return yocto.settle_lock(path, resolved.recipe, choice, find_folders())


SETTLE: Mapping[str, Callable[[Path, Resolved, LockChoice, Cache], tuple[AnyLock, str]]] = {
    "debian": _settle_packages,
    "yocto": _settle_layers,
}


def _make_request(recipe: Recipe) -> Request:
    check_supplied(recipe.board)
    return make_request(recipe, host_architecture(platform.machine()), needed_packages(recipe))


def build(recipe_path: Path, settings: Settings, reporter: Reporter) -> Image:
    """Build and publish an image into `settings.out / <image>`; does nothing if that is up to date."""
    planned = plan(recipe_path, settings)
    reporter.say(f"{planned.recipe.image}: lock: {planned.lock_origin}")
    for note in make_notes(planned.recipe):
        reporter.say(f"{planned.recipe.image}: {note}")
    folder = settings.out.absolute() / planned.recipe.image
    with locked(folder.parent / f".{folder.name}.lock", str(folder)), planned.cache.in_use():
        clear_up(folder)
        documents = digest_of(planned.recipe, planned.lock, planned.fragments)
        if not any(step.run for step in planned.steps) and is_published(folder, planned.steps, documents):
            return Image(folder, planned.recipe, changed=False)
        fetch_missing(planned, settings, reporter)
        return _run_and_publish(planned, folder, reporter)


def make_lock(recipe_path: Path, settings: Settings) -> AnyLock:
    """A new lock for a recipe, whatever lock there was before."""
    resolved = resolve_recipe(recipe_path, settings.overrides)
    recipe = resolved.recipe
    cache = open_cache(settings.cache.resolve())
    choice = LockChoice(None, settings.update, settings.mirror)
    if recipe.engine == "yocto":
        yocto.check_recipe(resolved, find_folders())
        return yocto.make_lock(recipe, settings.update, find_folders())
    return resolve(recipe.image, _make_request(recipe), choice, cache)


def vendor_lock(recipe_path: Path, settings: Settings, store: Path, reporter: Reporter) -> tuple[int, int]:
    """Keep what a recipe's lock names in `store`; returns (files copied, files in all)."""
    planned = plan(recipe_path, settings)
    if not isinstance(planned.lock, Lock):
        raise UsageError(
            f"{planned.recipe.image}: the yocto engine keeps its sources itself",
            hint="name a folder for them in the settings file: yocto: {downloads: FOLDER}",
        )
    every = {each.sha256 for each in planned.lock.packages} | {each.sha256 for each in planned.lock.wheels}
    sources = Sources(settings.mirror, settings.vendor)
    with planned.cache.in_use():
        fetch(planned.lock, every, planned.cache, sources, reporter.download())
        return vendor(planned.lock, planned.cache, store.absolute())


def fetch_missing(planned: Planned, settings: Settings, reporter: Reporter) -> None:
    """Bring what the stages that run will read into the cache."""
    wanted = {digest for step in planned.steps if step.run for digest in step.stage.files}
    if not isinstance(planned.lock, Lock):
        return  # bitbake fetches what it needs itself
    sources = Sources(settings.mirror, settings.vendor)
    fetch(planned.lock, wanted, planned.cache, sources, reporter.download())


def _run_and_publish(planned: Planned, folder: Path, reporter: Reporter) -> Image:
    log_path = planned.cache.root / "logs" / f"{planned.recipe.image}.log"
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("w") as log:
        run = Run(planned.cache, log, planned.lock.epoch, reporter.step, reporter.say)
        folders = run_plan(planned.steps, run)
        save_last(planned.cache, planned.recipe.image, planned.steps)
    result = Result(planned.recipe, planned.lock, planned.steps, folders, log_path, planned.fragments)
    return publish(result, folder)


def load_last(cache: Cache, image: str) -> dict[str, str]:
    """Stage name -> key of the image's last build."""
    try:
        keys: dict[str, str] = json.loads((cache.root / "last" / f"{image}.json").read_text())
    except (OSError, ValueError):
        return {}
    return keys


def save_last(cache: Cache, image: str, steps: tuple[Step, ...]) -> None:
    """Remember the keys of a build, so that the next plan can say what changed."""
    keys = {step.stage.name: step.key for step in steps}
    write_text(cache.root / "last" / f"{image}.json", json.dumps(keys, indent=1))
