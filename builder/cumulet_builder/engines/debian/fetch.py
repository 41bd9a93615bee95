"""Bringing what a lock names into the cache: from a vendored store, then from the mirror."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import sha256_file, writing
from cumulet_builder.cache import Cache
from cumulet_builder.download import Report, Request, download
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.engines.debian.mirror import Mirror, find_mirror
from cumulet_builder.engines.debian.pins import Target
from cumulet_builder.engines.debian.wheels import fetch_wheels


@dataclass(frozen=True)
class Sources:
    """Where files may come from: `--mirror` and `--vendor`."""

    mirror: str | None
    vendor: Path | None


def fetch(lock: Lock, digests: Iterable[str], cache: Cache, sources: Sources, report: Report | None) -> None:
    """Make the cache have the files with these digests, as far as the lock names them.

    Files that are there are read once and fetched anew if they are damaged.
    Interrupted, the next call goes on where this one stopped. Raises ToolError
    naming the first file that cannot be had.
    """
    wanted = set(digests)
    for digest in wanted:
        cache.drop_damaged_file(digest)
    packages = [each for each in lock.packages if each.sha256 in wanted and not cache.have_file(each.sha256, each.size)]
    wheels = [each for each in lock.wheels if each.sha256 in wanted and not cache.have_file(each.sha256)]
    if sources.vendor:
        names = {each.sha256: each.file_name for each in packages} | {each.sha256: each.file for each in wheels}
        take_vendored(sources.vendor, names, cache)
        packages = [each for each in packages if not cache.have_file(each.sha256, each.size)]
    if packages:
        mirror = find_mirror(sources.mirror)
        requests = [Request(_find_url(each, mirror), each.sha256, each.size, each.file_name) for each in packages]
        download(requests, cache, report)
    fetch_wheels(wheels, Target(lock.request.architecture, lock.request.suite), cache)


def _find_url(package: LockedPackage, mirror: Mirror) -> str:
    if package.security and not mirror.security:
        raise ToolError(
            f"{package.file_name}: is of Debian's security archive, and only {mirror.main} is named",
            hint="name that too: `security_mirror: URL` beside `mirror: URL` in ~/.config/cumulet/config.yaml",
        )
    return f"{mirror.security if package.security else mirror.main}/{package.path}"


def take_vendored(store: Path, names: dict[str, str], cache: Cache) -> None:
    """Copy files (digest -> name) that a vendored store has into the cache."""
    if not (store / "files").is_dir():
        raise UsageError(f"{store}: not a vendored store", hint="make one: cumulet vendor RECIPE --to FOLDER")
    for digest, name in names.items():
        source = Cache(store).file(digest)
        if not source.is_file():
            continue
        with cache.scratch("vendor") as folder:
            copy = Path(shutil.copyfile(source, folder / digest))
            if sha256_file(copy) != digest:
                raise ToolError(
                    f"{source}: not the content of {name}: wrong checksum",
                    hint=f"vendor it again: cumulet vendor RECIPE --to {store}",
                )
            cache.add_file(copy, digest)


def vendor(lock: Lock, cache: Cache, store: Path) -> tuple[int, int]:
    """Copy everything the lock names from the cache into a store; returns (files copied, files in all)."""
    digests = dict.fromkeys([*(each.sha256 for each in lock.packages), *(each.sha256 for each in lock.wheels)])
    copied = 0
    for digest in digests:
        target = Cache(store).file(digest)
        if target.is_file() and sha256_file(target) == digest:
            continue
        with writing(target) as stream, cache.file(digest).open("rb") as source:
            shutil.copyfileobj(source, stream)
        copied += 1
    return copied, len(digests)
