"""The recipe that a new user starts from."""

from __future__ import annotations

import re
from pathlib import Path

from cumulet.core.documents import suggest
from cumulet.core.errors import UsageError
from cumulet.core.files import raise_os_error, write_text
from cumulet_builder.assets import find_assets
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.render import render


def write_starter(name: str, board: str, folder: Path) -> Path:
    """Write `folder/name.yaml` for a bundled board and return its path. Never overwrites a file.

    Raises UsageError for a bad name, an unknown board or a file that is there.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,62}", name):
        raise UsageError(
            f"{name!r} is not a name for an image", hint="use lower-case letters, digits, '.', '+' and '-': my-node"
        )
    boards = sorted(path.stem for path in (find_assets("recipes") / "boards").glob("*.yaml"))
    if board not in boards:
        raise UsageError(
            f"unknown board {board!r}", hint=suggest(board, boards) or f"known boards: {', '.join(boards)}"
        )
    path = folder / f"{name}.yaml"
    if path.exists():
        raise UsageError(f"{path}: is there already", hint="choose another name or folder, or remove it first")
    try:
        write_text(path, render("recipe/new.yaml.j2", name=name, board=board))
    except OSError as error:
        raise_os_error(error, path)
    load_recipe(path)
    return path
