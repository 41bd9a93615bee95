"""Firmware: of firmware packages only the files that a board asks for."""

from __future__ import annotations

import os.path
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from cumulet.core.errors import Problem, UsageError
from cumulet_builder.tree import Tree, filter_tree

START = "/usr/lib/firmware"


def make_firmware(debs: Sequence[Path], globs: Sequence[str], asker: str) -> Tree:
    """The layer of firmware files that match `globs` below /usr/lib/firmware, with what their links point to.

    Raises UsageError with every glob that matches nothing; `asker` names the board in it.
    """
    whole = load_firmware(debs)
    problems = [
        Problem(asker, 0, 0, f"no firmware matches {glob!r}", "add the package that has it to the board's packages")
        for glob in globs
        if not any(fnmatchcase(path, f"{START}/{glob}") for path in whole.nodes)
    ]
    if problems:
        raise UsageError(f"{asker}: firmware is missing", problems=problems)
    kept = {path for path in whole.nodes if any(fnmatchcase(path, f"{START}/{glob}") for glob in globs)}
    kept |= _link_targets(whole, kept)
    return filter_tree(whole, lambda path, node: node.kind == "folder" or path in kept)


def load_firmware(debs: Sequence[Path]) -> Tree:
    """Every file and link below /usr/lib/firmware in the packages, wherever they put it."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    tree = Tree()
    for deb in debs:
        with DebFile(str(deb)) as archive:
            data = archive.data.tgz()
            for member in data:
                path = "/" + str(member.name).removeprefix("./").strip("/")
                path = path if path.startswith("/usr/") else f"/usr{path}"
                if not path.startswith(START + "/") or member.isdir():
                    continue
                source = None if member.issym() else data.extractfile(member)
                if source is None:
                    tree.link(path, str(member.linkname))
                else:
                    tree.file(path, source.read())
    return tree


def make_missing_firmware(wanted: Mapping[str, Iterable[str]], root: Tree) -> dict[str, list[str]]:
    """Module -> firmware it asks for that is not in the root (packed files count as there)."""
    have = {path.removeprefix(START + "/") for path in root.nodes if path.startswith(START + "/")}
    plain = have | {name.removesuffix(end) for name in have for end in (".xz", ".zst") if name.endswith(end)}
    missing = {module: [name for name in names if name not in plain] for module, names in wanted.items()}
    return {module: names for module, names in missing.items() if names}


def _link_targets(tree: Tree, paths: set[str]) -> set[str]:
    found: set[str] = set()
    todo = [path for path in paths if tree.nodes[path].kind == "link"]
    while todo:
        path = todo.pop()
        # Paths of the image: pathlib would take them for this computer's.
        target = os.path.normpath(os.path.join(os.path.dirname(path), tree.nodes[path].target))  # noqa: PTH118, PTH120
        if target in tree.nodes and target not in found:
            found.add(target)
            if tree.nodes[target].kind == "link":
                todo.append(target)
    return found
