"""Which lock a build goes by: the one named, the one beside the recipe, the last one, or a new one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_text
from cumulet_builder.assets import find_requirements
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.lock import Lock, Request, load_lock, write_lock
from cumulet_builder.engines.debian.mirror import Mirror, find_mirror
from cumulet_builder.engines.debian.pins import Target, load_pins
from cumulet_builder.engines.debian.resolve import Resolver

SUFFIX = ".lock.json"


@dataclass(frozen=True)
class LockChoice:
    """What the user said about locks: a file, or `update` to look for newer packages.

    `pins`: the file with the pinned Python packages, if it is not `requirements.lock`.
    """

    file: Path | None
    update: bool
    mirror: str | None
    pins: Path | None = None


def lock_beside(recipe: Path) -> Path:
    """Where a recipe's own lock is kept: `edge.yaml` -> `edge.lock.json`."""
    return recipe.with_name(recipe.stem + SUFFIX)


def settle_lock(recipe: Path, image: str, request: Request, choice: LockChoice, cache: Cache) -> tuple[Lock, str]:
    """The lock and where it comes from, in words. Only a missing lock is resolved anew."""
    named = choice.file or (lock_beside(recipe) if lock_beside(recipe).exists() and not choice.update else None)
    if named:
        lock = load_lock(named)
        _check(lock, request, named, recipe)
        return lock, str(named)
    kept = cache.root / "locks" / f"{image}-{request.digest[:16]}.json"
    last = None if choice.update else load_kept(kept)
    if last is not None:
        return last, "the last build"
    lock = resolve(image, request, choice, cache)
    write_lock(lock, kept)
    write_lock(lock, cache.root / "locks" / f"{image}.json")
    return lock, "new"


def resolve(image: str, request: Request, choice: LockChoice, cache: Cache) -> Lock:
    """A new lock, near to the image's last one unless `update` was asked for."""
    mirror = find_mirror(choice.mirror)
    before = load_kept(cache.root / "locks" / f"{image}.json")
    known = load_pins(choice.pins or find_requirements(), Target(request.architecture, request.suite))
    hashes = {pin.word: pin.hashes for pin in known.values()}
    return Resolver(apt_folder(cache, mirror, request), mirror, hashes).lock(image, request, before, choice.update)


def load_kept(path: Path) -> Lock | None:
    """A lock that we keep ourselves; None if there is none, or only one of another version of Cumulet."""
    try:
        return load_lock(path)
    except UsageError:
        return None


def apt_folder(cache: Cache, mirror: Mirror, request: Request) -> Path:
    """The private apt root of a mirror and suite, inside the cache."""
    text = f"{mirror.sources(request.suite, request.components)}"
    return cache.root / "apt" / sha256_text(text)[:16]


def _check(lock: Lock, request: Request, file: Path, recipe: Path) -> None:
    if lock.request == request:
        return
    old, new = lock.request.model_dump(), request.model_dump()
    changed = []
    for key, value in new.items():
        if old[key] == value:
            continue
        if isinstance(value, tuple):
            words = [f"+{word}" for word in value if word not in old[key]]
            words += [f"-{word}" for word in old[key] if word not in value]
            changed.append(f"{key} {' '.join(words)}")
        else:
            changed.append(f"{key} {old[key]} -> {value}")
    raise UsageError(
        f"{file}: the lock is not of this recipe: {'; '.join(changed)}", hint=f"make it again: cumulet lock {recipe}"
    )
