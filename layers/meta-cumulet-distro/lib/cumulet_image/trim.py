"""Taking out of a root file system what the recipe does not want: paths by pattern, kernel modules by name.

The rules are those of the Debian engine: patterns are globs of absolute paths, in which `*` also matches `/`;
of the kernel modules those stay that are named, as names or globs, with everything they need.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

SUFFIX = re.compile(r"\.ko(\.(xz|zst|gz))?$")


def drop_paths(root: Path, drop: Sequence[str], keep: Sequence[str] = ()) -> list[str]:
    """Remove what matches `drop` and not `keep`; returns the removed paths."""
    removed = []
    for path in sorted(walk(root), key=lambda name: name.count("/"), reverse=True):
        if not _matches(path, drop) or _matches(path, keep):
            continue
        place = root / path[1:]
        if place.is_dir() and not place.is_symlink():
            if _matches_below(root, path, keep):
                continue
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        removed.append(path)
    return sorted(removed)


def keep_modules(root: Path, wanted: Sequence[str]) -> tuple[list[str], list[str]]:
    """Remove every kernel module that is not in `wanted` and that none of them needs.

    Returns (names kept, wanted names that are neither a module nor built in). Whoever calls runs depmod.
    """
    kept: set[str] = set()
    unknown: set[str] = set(wanted)
    for folder in sorted((root / "usr/lib/modules").glob("*")) or sorted((root / "lib/modules").glob("*")):
        needs = read_needs(folder / "modules.dep")
        builtin = {module_name(line) for line in _lines(folder / "modules.builtin")}
        stay = choose_modules(needs, wanted)
        names = {module_name(path) for path in needs} | builtin
        unknown &= {word for word in wanted if not any(fnmatchcase(name, _plain(word)) for name in names)}
        for path in needs:
            if path not in stay:
                (folder / path).unlink(missing_ok=True)
        _remove_empty(folder)
        kept |= {module_name(path) for path in stay}
    return sorted(kept), sorted(unknown)


def read_needs(path: Path) -> dict[str, list[str]]:
    """Module path -> the paths it needs, from depmod's list."""
    needs = {}
    for line in _lines(path):
        name, _, rest = line.partition(":")
        needs[name] = rest.split()
    return needs


def choose_modules(needs: dict[str, list[str]], wanted: Iterable[str]) -> set[str]:
    """The paths of the wanted modules and of all they need; depmod's list names what is needed at any depth."""
    patterns = [_plain(word) for word in wanted]
    stay = {path for path in needs if any(fnmatchcase(module_name(path), pattern) for pattern in patterns)}
    return stay | {other for path in stay for other in needs[path]}


def module_name(path: str) -> str:
    """`kernel/fs/ext4/ext4.ko.zst` -> `ext4`, with `_` for `-`."""
    return _plain(SUFFIX.sub("", path.rsplit("/", 1)[-1]))


def walk(root: Path) -> list[str]:
    """Every path below `root`, as an absolute path of the image; links are not followed."""
    found = []
    for folder, folders, files in os.walk(root):
        inside = "/" + os.path.relpath(folder, root) if folder != str(root) else ""
        found += [f"{inside}/{name}" for name in (*folders, *files)]
    return sorted(found)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _matches_below(root: Path, path: str, patterns: Sequence[str]) -> bool:
    return bool(patterns) and any(_matches(path + below, patterns) for below in walk(root / path[1:]))


def _plain(name: str) -> str:
    return name.replace("-", "_")


def _lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text().splitlines() if line.strip()] if path.is_file() else []


def _remove_empty(folder: Path) -> None:
    for name, _, _ in os.walk(folder, topdown=False):
        if not any(Path(name).iterdir()):
            Path(name).rmdir()
