"""From a recipe file to the resolved recipe: every fragment merged, every problem found at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cumulet.core.documents import Value, check, make_error, suggest
from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.recipe.checks import find_conflicts
from cumulet_builder.recipe.fragments import Fragment, Reader
from cumulet_builder.recipe.merge import drop_keys, merge_values, put_value
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.recipe.override import Override, apply_overrides, parse_overrides, split_overrides

# What a board takes from a file of this computer in place of a package.
OWN_FILES = (
    ("board", "kernel", "file"),
    ("board", "boot", "loader", "file"),
    ("secure_boot", "key"),
    ("secure_boot", "certificate"),
)
# Decide which files are read at all, so they must be known before reading.
DECIDING = ("board", "features", "include")


@dataclass(frozen=True)
class Resolved:
    """A recipe, the merged document it was made from (each value knows its file and line), the files read for it.

    `fragments` are those files one by one, as they were written.
    """

    recipe: Recipe
    document: Value
    files: tuple[Path, ...]
    fragments: tuple[Fragment, ...] = ()


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The resolved recipe in a file, `overrides` as of `--set`. Raises UsageError with every problem."""
    return resolve_recipe(path, overrides).recipe


def resolve_recipe(path: Path, overrides: Sequence[str] = ()) -> Resolved:
    """Like `load_recipe`, with the origin of every value."""
    reader = Reader(find_assets("recipes"))
    options, problems = parse_overrides(overrides)
    reader.problems += problems
    document = _read_document(reader, path, options)
    document = _anchor_files(reader, document)
    recipe, problems = check(Recipe, document, "recipe")
    echoes = [f"missing key {name!r} in recipe" for name in reader.unread]
    reader.problems += [each for each in problems if each.message not in echoes]
    reader.problems += find_conflicts(document)
    if recipe is None or reader.problems:
        raise make_error(reader.problems)
    fragments = tuple(reader.files.values())
    return Resolved(recipe, document, tuple(each.path for each in fragments), fragments)


def find_recipe(name: str) -> Path:
    """A recipe file: a path, or the name of one of the bundled images. Raises UsageError."""
    path = Path(name)
    if path.is_file():
        return path
    images = find_assets("recipes") / "images"
    bundled = images / f"{name}.yaml"
    if "/" not in name and bundled.is_file():
        return bundled
    known = [each.stem for each in images.glob("*.yaml")]
    raise UsageError(
        f"{name}: no such recipe",
        hint=suggest(name, known) or "cumulet recipes lists what is here; cumulet new NAME starts one",
    )


def _read_document(reader: Reader, path: Path, options: Sequence[Override]) -> Value:
    first, rest = split_overrides(options, DECIDING)
    image = reader.read(path, "recipe")
    document, problems = apply_overrides(image.document, first, Recipe)
    reader.problems += problems
    includes = [each.document for each in reader.read_includes(replace(image, document=document), "recipe")]
    # Once more over what was included: an option wins over every file.
    top, _ = apply_overrides(merge_values([*includes, document]), first, Recipe)
    board = reader.read_board(top.mapping["board"]) if "board" in top.mapping else None
    wanted = [board[1]] if board else []
    names: dict[str, Value] = {}
    features = [
        *(each for part in wanted for each in reader.read_features(part, names)),
        *reader.read_features(top, names),
    ]
    parts = [drop_keys(part, ["features", "include"]) for part in [*wanted, *includes, *features, document]]
    merged = merge_values(parts)
    content = dict(merged.mapping)
    content["features"] = Value(list(names.values()), merged.place, merged.key)
    if board is not None:
        content["board"] = board[0]
    elif content.pop("board", None) is not None:
        # What is wrong with it has been said; nothing else about it can be known.
        reader.unread.append("board")
        rest = [each for each in rest if each.key[0] != "board"]
    document, problems = apply_overrides(replace(merged, content=content), rest, Recipe)
    reader.problems += problems
    return document


def _anchor_files(reader: Reader, document: Value) -> Value:
    """Turn the files that fragments name into absolute paths; each is relative to its own fragment."""
    content = dict(document.mapping)
    files = content.get("files")
    if files is not None and isinstance(files.content, list):
        content["files"] = replace(files, content=[_anchor_source(reader, each) for each in files.content])
    kubernetes = content.get("kubernetes")
    named = kubernetes.mapping.get("files") if kubernetes is not None else None
    if kubernetes is not None and named is not None and isinstance(named.content, dict):
        paths = {
            name: replace(each, content=str(reader.home(each.place)[0] / each.content))
            if isinstance(each.content, str)
            else each
            for name, each in named.content.items()
        }
        anchored = {**kubernetes.mapping, "files": replace(named, content=paths)}
        content["kubernetes"] = replace(kubernetes, content=anchored)
    anchored_document = replace(document, content=content)
    for key in OWN_FILES:
        file = anchored_document.at(key)
        if file is not None and isinstance(file.content, str):
            path = reader.home(file.place)[0] / file.content
            anchored_document = put_value(anchored_document, key, replace(file, content=str(path)))
    return anchored_document


def _anchor_source(reader: Reader, file: Value) -> Value:
    source = file.mapping.get("source")
    if source is None or not isinstance(source.content, str):
        return file
    path = reader.inside(source, "source")
    if path is None:
        return file
    return replace(file, content={**file.mapping, "source": replace(source, content=str(path.resolve()))})
