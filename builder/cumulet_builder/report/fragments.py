"""The recipe documents of an image as the reports name them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cumulet.core.files import sha256_file
from cumulet_builder.assets import find_assets
from cumulet_builder.report.facts import Fragment


def make_fragments(paths: Iterable[Path]) -> tuple[Fragment, ...]:
    """A bundled document by its path below `recipes`, one of the user's by its name: no folder of this computer."""
    recipes = find_assets("recipes")
    names = {path: str(path.relative_to(recipes)) if path.is_relative_to(recipes) else path.name for path in paths}
    return tuple(Fragment(name, sha256_file(path)) for path, name in names.items())
