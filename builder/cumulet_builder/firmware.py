"""The stage `firmware`: of firmware packages only the files that a board asks for.

It leaves `firmware.tar`, a layer of the root, and `owners.json` (package -> paths).
"""

from __future__ import annotations

import json
import os.path
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cumulet.core.documents import make_error
from cumulet.core.errors import Problem
from cumulet_builder.copyrights import find_copyrights, write_texts
from cumulet_builder.opened import load_package_tree
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.tree import Tree, filter_tree, merge, write_tar

CODE = "1"
START = "/usr/lib/firmware"


@dataclass(frozen=True)
class FirmwarePackage:
    """A package with firmware: its name, its file and the SHA-256 of that."""

    name: str
    deb: Path
    sha256: str


def make_stage(packages: Sequence[FirmwarePackage], globs: Sequence[str], asker: str) -> Stage:
    """The stage for a board that asks for `globs`; `asker` names it in problems."""

    def make(workshop: Workshop) -> None:
        # Opened once: the largest take seconds to unpack.
        whole = {package.name: load_package_tree(package.deb) for package in packages}
        trees = {name: keep_firmware(tree) for name, tree in whole.items()}
        layer = choose_firmware(merge(trees.values()), globs, asker)
        with (workshop.folder / "firmware.tar").open("wb") as stream:
            write_tar(layer, stream, workshop.epoch)
        owners = {name: sorted(set(tree.nodes) & set(layer.nodes)) for name, tree in trees.items()}
        (workshop.folder / "owners.json").write_text(json.dumps(owners, sort_keys=True))
        write_texts(find_copyrights(merge(whole.values())), workshop.folder)

    inputs = {
        "code": CODE,
        "packages": "\n".join(f"{package.name} {package.sha256}" for package in packages),
        "files": " ".join(sorted(set(globs))),
    }
    return Stage("firmware", inputs, make, files=tuple(package.sha256 for package in packages))


def choose_firmware(whole: Tree, globs: Sequence[str], asker: str) -> Tree:
    """The firmware files that match `globs` below /usr/lib/firmware, with what their links point to.

    Raises UsageError with every glob that matches nothing; `asker` names the board in it.
    """
    problems = [
        Problem(asker, 0, 0, f"no firmware matches {glob!r}", "add the package that has it to the board's packages")
        for glob in globs
        if not any(fnmatchcase(path, f"{START}/{glob}") for path in whole.nodes)
    ]
    if problems:
        raise make_error(problems)
    kept = {path for path in whole.nodes if any(fnmatchcase(path, f"{START}/{glob}") for glob in globs)}
    kept |= _link_targets(whole, kept)
    return filter_tree(whole, lambda path, node: node.kind == "folder" or path in kept)


def keep_firmware(package: Tree) -> Tree:
    """Every file and link below /usr/lib/firmware in an opened package, wherever that puts it."""
    nodes = {path if path.startswith("/usr/") else f"/usr{path}": node for path, node in package.nodes.items()}
    return Tree({path: node for path, node in nodes.items() if path.startswith(START + "/")})


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
