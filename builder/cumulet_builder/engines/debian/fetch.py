"""Bringing what a lock names into the cache: from a vendored store, then from the mirror."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_file
from cumulet_builder.cache import Cache
from cumulet_builder.download import Report, Request, download
from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.engines.debian.mirror import find_mirror
from cumulet_builder.engines.debian.wheels import fetch_wheels


@dataclass(frozen=True)
class Sources:
    """Where files may come from: `--mirror` and `--vendor`."""

    mirror: str | None
    vendor: Path | None


def fetch(lock: Lock, digests: Iterable[str], cache: Cache, sources: Sources, report: Report | None) -> None:
    """Make the cache have the files with these digests, as far as the lock names them.

    Interrupted, the next call goes on where this one stopped. Raises ToolError
    naming the first file that cannot be had.
    """
    wanted = set(digests)
    packages = [each for each in lock.packages if each.sha256 in wanted and not cache.have_file(each.sha256, each.size)]
    wheels = [each for each in lock.wheels if each.sha256 in wanted and not cache.have_file(each.sha256)]
    if sources.vendor:
        names = {each.sha256: each.file_name for each in packages} | {each.sha256: each.file for each in wheels}
        take_vendored(sources.vendor, names, cache)
        packages = [each for each in packages if not cache.have_file(each.sha256, each.size)]
    if packages:
        mirror = find_mirror(sources.mirror)
        requests = [
            Request(
                url=f"{mirror.security if each.security else mirror.main}/{each.path}",
                sha256=each.sha256,
                size=each.size,
                name=each.file_name,
            )
            for each in packages
        ]
        download(requests, cache, report)
    fetch_wheels(wheels, lock.request.architecture, cache)


def take_vendored(store: Path, names: dict[str, str], cache: Cache) -> None:
    """Copy files (digest -> name) that a vendored store has into the cache."""
    if not (store / "files").is_dir():
        raise UsageError(f"{store}: not a vendored store", hint="make one: cumulet vendor RECIPE --to FOLDER")
    for digest in names:
        source = Cache(store).file(digest)
        if source.is_file():
            with cache.scratch("vendor") as folder:
                cache.add_file(Path(shutil.copyfile(source, folder / digest)), digest)


def vendor(lock: Lock, cache: Cache, store: Path) -> tuple[int, int]:
    """Copy everything the lock names from the cache into a store; returns (files copied, files in all)."""
    digests = [*(each.sha256 for each in lock.packages), *(each.sha256 for each in lock.wheels)]
    copied = 0
    for digest in digests:
        target = Cache(store).file(digest)
        if target.is_file() and sha256_file(target) == digest:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{digest}.part")
        shutil.copyfile(cache.file(digest), partial)
        partial.replace(target)
        copied += 1
    return copied, len(digests)
