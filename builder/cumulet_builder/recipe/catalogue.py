"""The bundled boards, images and features, with their titles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core.documents import load_document
from cumulet_builder.recipe.fragments import shown_name

FOLDERS = {"images": "recipe", "boards": "board", "features": "feature"}


@dataclass(frozen=True)
class Item:
    """A bundled file: its name and title, and of a board its architecture and whether it was seen to boot."""

    name: str
    title: str
    board: str = ""
    architecture: str = ""
    support: str = ""


def load_catalogue(recipes: Path) -> dict[str, list[Item]]:
    """Items by folder name, sorted. Raises UsageError for a file that cannot be read."""
    return {
        folder: [_load_item(path, kind) for path in sorted((recipes / folder).glob("*.yaml"))]
        for folder, kind in FOLDERS.items()
    }


def _load_item(path: Path, kind: str) -> Item:
    document = load_document(path, kind=kind, name=shown_name(path)).plain()
    words = {name: str(document.get(name, "")) for name in ("title", "board", "architecture")}
    support = str(document.get("support", "untested")) if kind == "board" else ""
    return Item(path.stem, words["title"], words["board"], words["architecture"], support)
