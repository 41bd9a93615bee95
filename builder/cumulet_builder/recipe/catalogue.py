"""The bundled boards, images and features, with their titles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core.documents import load_document
from cumulet_builder.recipe.boards import load_boards
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
    found = {
        folder: [_load_item(path, kind) for path in sorted((recipes / folder).glob("*.yaml"))]
        for folder, kind in FOLDERS.items()
        if kind != "board"
    }
    boards = [
        Item(each.board, each.title, each.board, each.architecture, each.support) for each in load_boards(recipes)
    ]
    return {folder: boards if folder == "boards" else found[folder] for folder in FOLDERS}


def _load_item(path: Path, kind: str) -> Item:
    document = load_document(path, kind=kind, name=shown_name(path)).plain()
    return Item(path.stem, str(document.get("title", "")), str(document.get("board", "")))
