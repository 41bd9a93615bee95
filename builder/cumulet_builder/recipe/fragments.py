"""Reading the files of a recipe: the image, what it includes, its board and its features.

A file may name others only inside its own repository (the nearest folder above it
that git knows, else its own folder); bundled boards and features are found by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from cumulet.core.documents import Place, Value, describe, load_document, suggest
from cumulet.core.errors import Problem, UsageError
from cumulet_builder.recipe.merge import drop_keys, merge_values

HEADER = ("version", "include")
NOT_IN_FEATURES = ("board", "image", "size_budget", "test")


@dataclass(frozen=True)
class Fragment:
    """One file of a recipe: its path, the folder it may not leave, what it says."""

    path: Path
    root: Path
    document: Value

    @property
    def name(self) -> str:
        """How the file is called in messages."""
        return self.document.place.file


@dataclass
class Reader:
    """Reads fragments and keeps every problem it meets. `recipes` is the folder of bundled ones.

    `unread` holds the keys of the recipe that name something that could not be read, `board` the board's document
    once it was.
    """

    recipes: Path
    problems: list[Problem] = field(default_factory=list)
    files: dict[str, Fragment] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    board: Value | None = None

    def read(self, path: Path, kind: str, root: Path | None = None) -> Fragment:
        """Read one file. Raises UsageError with every problem in it."""
        path = path.absolute()
        document = load_document(path, kind=kind, name=shown_name(path))
        fragment = Fragment(path, root or find_root(path, self.recipes), document)
        self.files[fragment.name] = fragment
        return fragment

    def home(self, place: Place) -> tuple[Path, Path]:
        """(folder, root) for a relative path written at `place`; an option is free to name any file."""
        fragment = self.files.get(place.file)
        return (fragment.path.parent, fragment.root) if fragment else (Path.cwd(), Path("/"))

    def read_includes(self, fragment: Fragment, kind: str, above: Sequence[Path] = ()) -> list[Fragment]:
        """What a fragment includes, each after what it includes itself; every file once."""
        found: list[Fragment] = []
        chain = (*above, fragment.path.resolve())
        for word in self._words(fragment.document, "include", "paths"):
            path = self.inside(word, "include")
            if path is None:
                continue
            if path.resolve() in chain:
                self.problems.append(word.place.problem(f"include: {word.content!r} includes itself"))
                continue
            if path.resolve() in {each.path.resolve() for each in self.files.values()}:
                continue
            included = self._try(lambda path=path: self.read(path, kind, fragment.root))  # type: ignore[misc]
            if included is not None:
                found += [*self.read_includes(included, kind, chain), included]
        return found

    def inside(self, word: Value, what: str) -> Path | None:
        """The file that a relative path names, if it is there and inside its repository."""
        folder, root = self.home(word.place)
        path = folder / str(word.content)
        if not path.resolve().is_relative_to(root.resolve()):
            self.problems.append(
                word.place.problem(f"{what}: {word.content!r} is outside of {root}", "keep the file inside this folder")
            )
        elif not path.is_file():
            self.problems.append(word.place.problem(f"{what}: {word.content!r}: no such file"))
        else:
            return path
        return None

    def read_board(self, word: Value) -> tuple[Value, Value] | None:
        """(board, recipe values it wants) of the board that a recipe names, or None and a problem."""
        name = word.content
        if not isinstance(name, str):
            self.problems.append(
                word.place.problem(f"board: must be a name, got {describe(word.plain())}", self._known("boards"))
            )
            return None
        if "/" in name or name.endswith(".yaml"):
            path = self.inside(word, "board")
        else:
            path = self._bundled("boards", "board", word)
        fragment = self._try(lambda: self.read(path, "board")) if path else None
        if fragment is None:
            return None
        parts = [each.document for each in [*self.read_includes(fragment, "board"), fragment]]
        merged = merge_values(parts)
        wanted = merged.mapping.get("defaults") or Value({}, merged.place, merged.key)
        if not isinstance(wanted.content, dict):
            self.problems.append(wanted.place.problem(f"defaults: must be a mapping, got {describe(wanted.plain())}"))
        self.board = drop_keys(merged, ["include", "defaults"])
        return self.board, wanted

    def read_features(self, document: Value, names: dict[str, Value]) -> list[Value]:
        """What the features named in a document bring, each after the features it needs itself.

        `names` collects them in that order.
        """
        found: list[Value] = []
        for word in self._words(document, "features", "names"):
            name = str(word.content)
            if name in names:
                continue
            path = self._bundled("features", "feature", word)
            fragment = self._try(lambda path=path: self.read(path, "feature")) if path else None  # type: ignore[misc]
            names[name] = word
            if fragment is None:
                continue
            found += self.read_features(fragment.document, names)
            names[name] = names.pop(name)  # behind what it needs
            parts = [*self.read_includes(fragment, "feature"), fragment]
            found += [self._as_feature(each) for part in parts for each in self._for_board(part.document)]
        return found

    def _for_board(self, document: Value) -> list[Value]:
        """A feature's document, and what it says under `by_board` for the board at hand."""
        table = document.mapping.get("by_board")
        found = [drop_keys(document, ["by_board"])]
        for name, cases in (table.mapping if table is not None else {}).items():
            value = self.board.at(tuple(name.split("."))) if self.board is not None else None
            case = cases.mapping.get(str(value.content)) if value is not None else None
            found += [case] if case is not None else []
        return found

    def _as_feature(self, document: Value) -> Value:
        for name in NOT_IN_FEATURES:
            if name in document.mapping:
                place = document.mapping[name].key
                self.problems.append(place.problem(f"a feature cannot set {name!r}", "set it in the image's recipe"))
        content = drop_keys(document, [*HEADER, *NOT_IN_FEATURES, "title", "features"]).mapping
        packages = content.pop("packages", None)
        if packages is not None:
            # What a user adds on top has a build stage of its own; what a feature brings belongs to the base.
            both = [content["base_packages"], packages] if "base_packages" in content else [packages]
            content["base_packages"] = merge_values(both)
        return replace(document, content=content)

    def _words(self, document: Value, key: str, what: str) -> list[Value]:
        value = document.mapping.get(key)
        if value is None:
            return []
        if not isinstance(value.content, list):
            message = f"{key}: must be a list of {what}, got {describe(value.plain())}"
            self.problems.append(value.place.problem(message, f"write it like {key}: [...]"))
            return []
        wrong = [each for each in value.items if not isinstance(each.content, str)]
        for each in wrong:
            self.problems.append(each.place.problem(f"{key}: must be text, got {describe(each.plain())}"))
        return [each for each in value.items if isinstance(each.content, str)]

    def _bundled(self, folder: str, kind: str, word: Value) -> Path | None:
        path = self.recipes / folder / f"{word.content}.yaml"
        known = self._names(folder)
        if word.content in known:
            return path
        hint = suggest(word.content, known) or self._known(folder)
        self.problems.append(word.place.problem(f"unknown {kind} {word.content!r}", hint))
        return None

    def _names(self, folder: str) -> list[str]:
        return sorted(path.stem for path in (self.recipes / folder).glob("*.yaml"))

    def _known(self, folder: str) -> str:
        return f"known {folder}: {', '.join(self._names(folder))}"

    def _try(self, read: Callable[[], Fragment]) -> Fragment | None:
        try:
            return read()
        except UsageError as error:
            self.problems += error.problems
            return None


def find_root(path: Path, recipes: Path) -> Path:
    """The folder that a file's includes and sources may not leave."""
    folder = path.resolve().parent
    if folder.is_relative_to(recipes.resolve()):
        return recipes
    return next((each for each in [folder, *folder.parents] if (each / ".git").exists()), folder)


def shown_name(path: Path) -> str:
    """A file's path as it is shown: relative to the current folder if it is below it."""
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)
