"""Licence texts of packages that are opened but not installed, kept with the result of the stage that opened them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cumulet_builder.tree import Tree

NAME = "copyright.json"
PLACE = re.compile(r"/usr/share/doc/([^/]+)/copyright")


def package_of(path: str) -> str:
    """The package whose licence text is at an absolute path of the root, or "" if it is another file."""
    match = PLACE.fullmatch(path)
    return match[1] if match else ""


def make_path(package: str) -> str:
    """Where a package's licence text lies in the root."""
    return f"/usr/share/doc/{package}/copyright"


def write_copyrights(debs: Sequence[Path], folder: Path) -> None:
    """Write the licence texts of package files into a stage's folder."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    texts: dict[str, str] = {}
    for deb in debs:
        with DebFile(str(deb)) as archive:
            data = archive.data.tgz()
            for member in data:
                path = "/" + str(member.name).removeprefix("./")
                if member.isfile() and (package := package_of(path)):
                    source = data.extractfile(member)
                    texts[package] = source.read().decode(errors="replace") if source else ""
    write_texts(texts, folder)


def write_texts(texts: Mapping[str, str], folder: Path) -> None:
    """Write licence texts by package into a stage's folder."""
    (folder / NAME).write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n")


def find_copyrights(tree: Tree) -> dict[str, str]:
    """Package -> its licence text, from the tree of an opened package."""
    return {
        package: tree.read(path).decode(errors="replace")
        for path, node in tree.nodes.items()
        if node.kind == "file" and (package := package_of(path))
    }


def load_copyrights(stages: Iterable[Path]) -> dict[str, str]:
    """Package -> its licence text, from the folders of stages that have kept some."""
    texts: dict[str, str] = {}
    for path in (stage / NAME for stage in stages):
        if path.is_file():
            texts |= json.loads(path.read_text())
    return texts
