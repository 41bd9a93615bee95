"""Kernel modules by name: which a pattern means, what they need, in which order they load.

Pure: works on the lists that `depmod` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from fnmatch import fnmatchcase

from cumulet.core.errors import Problem

SUFFIX = re.compile(r"\.ko(\.(xz|zst|gz))?$")


@dataclass(frozen=True)
class ModuleIndex:
    """What depmod knows of a kernel's modules.

    `paths`: name -> path below the kernel's module folder; `needs`: path -> paths it
    uses; `first`, `after`: name -> names or aliases to load before and after it;
    `aliases`: (glob, name); `builtin`: names of what is in the kernel itself.
    """

    paths: Mapping[str, str]
    needs: Mapping[str, tuple[str, ...]]
    builtin: frozenset[str] = frozenset()
    first: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    after: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    aliases: tuple[tuple[str, str], ...] = ()

    def resolve(self, name: str) -> list[str]:
        """The paths that a module name or alias means; none for what is built in or absent."""
        plain = name.replace("-", "_")
        if plain in self.paths:
            return [self.paths[plain]]
        if plain in self.builtin:
            return []
        return sorted({self.paths[to] for glob, to in self.aliases if fnmatchcase(name, glob) and to in self.paths})


def module_name(path: str) -> str:
    """`kernel/fs/ext4/ext4.ko.xz` -> `ext4`, with `_` for `-`."""
    return SUFFIX.sub("", path.rsplit("/", 1)[-1]).replace("-", "_")


def make_index(lists: Mapping[str, bytes]) -> ModuleIndex:
    """An index from depmod's lists: file name (`modules.dep`, ...) -> content."""
    text = {name: data.decode(errors="replace") for name, data in lists.items() if not name.endswith(".bin")}
    needs: dict[str, tuple[str, ...]] = {}
    for line in text.get("modules.dep", "").splitlines():
        path, _, rest = line.partition(":")
        needs[path] = tuple(rest.split())
    first, after = _soft_needs(text.get("modules.softdep", ""))
    aliases = tuple(
        (words[1], words[2].replace("-", "_"))
        for line in text.get("modules.alias", "").splitlines()
        if len(words := line.split()) == 3 and words[0] == "alias"
    )
    builtin = frozenset(module_name(line) for line in text.get("modules.builtin", "").splitlines())
    return ModuleIndex({module_name(path): path for path in needs}, needs, builtin, first, after, aliases)


def find_modules(patterns: Iterable[str], index: ModuleIndex, asker: str) -> tuple[list[str], list[Problem]]:
    """The paths, sorted, of the modules that patterns mean and of all they need; a problem per unknown name."""
    wanted: list[str] = []
    problems: list[Problem] = []
    for pattern in dict.fromkeys(patterns):
        paths = match_modules(pattern, index)
        wanted += paths
        if not paths and not _is_builtin(pattern, index):
            near = get_close_matches(pattern.replace("-", "_"), [*index.paths, *index.builtin], 1)
            hint = f"did you mean {near[0]!r}?" if near else "see the kernel's own list of modules"
            problems.append(Problem(asker, 0, 0, f"no kernel module {pattern!r}", hint))
    return sorted(set(make_load_order(wanted, index))), problems


def match_modules(pattern: str, index: ModuleIndex) -> list[str]:
    """The paths of the modules that one pattern means; without what they need."""
    if "/" in pattern:
        return sorted(path for path in index.needs if fnmatchcase(SUFFIX.sub("", path), f"kernel/{pattern}"))
    plain = pattern.replace("-", "_")
    return sorted(path for name, path in index.paths.items() if fnmatchcase(name, plain))


def make_load_order(paths: Sequence[str], index: ModuleIndex) -> list[str]:
    """These modules and all they need, each after what it needs."""
    order: dict[str, None] = {}
    entered: set[str] = set()

    def visit(path: str) -> None:
        if path in entered:
            return
        entered.add(path)
        name = module_name(path)
        # depmod lists the whole chain, nearest first.
        before = [*index.needs[path][::-1], *_resolve_all(index.first.get(name, ()), index)]
        for need in before:
            visit(need)
        order[path] = None
        for extra in _resolve_all(index.after.get(name, ()), index):
            visit(extra)

    for path in paths:
        visit(path)
    return list(order)


def _resolve_all(names: Iterable[str], index: ModuleIndex) -> list[str]:
    return [path for name in names for path in index.resolve(name)]


def _is_builtin(pattern: str, index: ModuleIndex) -> bool:
    plain = pattern.rsplit("/", 1)[-1].replace("-", "_")
    return any(fnmatchcase(name, plain) for name in index.builtin)


def _soft_needs(text: str) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[str, ...]]]:
    first: dict[str, list[str]] = {}
    after: dict[str, list[str]] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 3 or words[0] != "softdep":
            continue
        name, into = words[1].replace("-", "_"), first
        for word in words[2:]:
            if word in ("pre:", "post:"):
                into = first if word == "pre:" else after
            else:
                into.setdefault(name, []).append(word)
    return {k: tuple(v) for k, v in first.items()}, {k: tuple(v) for k, v in after.items()}
