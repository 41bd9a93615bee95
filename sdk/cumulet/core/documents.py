"""YAML documents: values that know where they were written, and checks that name the place.

Plain YAML only: `true` and `false` are the only booleans, `0644`, `on` and dates
are text, and there are no aliases and no tags. A document is loaded into `Value`s
first; `check` then holds it against a pydantic model and finds every problem at once.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from cumulet import __version__
from cumulet.core.errors import Problem, UsageError

if TYPE_CHECKING:
    from pydantic import BaseModel

    Model = TypeVar("Model", bound=BaseModel)

Scalar = str | int | float | bool | None
Key = tuple[str | int, ...]
"""Where a value is inside a document: mapping keys and list positions from the top."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is written. Lines and columns count from 1; line 0: there is no line to name."""

    file: str
    line: int = 0
    column: int = 0

    def problem(self, message: str, hint: str = "") -> Problem:
        """A problem at this place."""
        return Problem(self.file, self.line, self.column, message, hint)


@dataclass(frozen=True, slots=True)
class Value:
    """A value with the place of its text (`place`) and of the key that names it (`key`).

    `content` is a dict of Values, a list of Values, or a scalar; never change it.
    """

    content: dict[str, Value] | list[Value] | Scalar
    place: Place
    key: Place

    @property
    def mapping(self) -> dict[str, Value]:
        """The content if it is a mapping, else an empty one."""
        return self.content if isinstance(self.content, dict) else {}

    @property
    def items(self) -> list[Value]:
        """The content if it is a list, else an empty one."""
        return self.content if isinstance(self.content, list) else []

    def plain(self) -> Any:
        """The content as plain dicts, lists and scalars."""
        if isinstance(self.content, dict):
            return {name: value.plain() for name, value in self.content.items()}
        if isinstance(self.content, list):
            return [value.plain() for value in self.content]
        return self.content

    def at(self, key: Key) -> Value | None:
        """The value at `key`, or None."""
        value: Value | None = self
        for step in key:
            if value is None:
                return None
            if isinstance(step, int):
                value = value.items[step] if step < len(value.items) else None
            else:
                value = value.mapping.get(step)
        return value


def load_document(path: Path, *, kind: str, known: int = 1, name: str | None = None) -> Value:
    """The document in a file, a mapping with a `version` not above `known`.

    `kind` says what it is in messages ("recipe"), `name` how to call the file.
    Raises UsageError with every problem.
    """
    file = name or str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise make_error([Problem(file, 0, 0, "no such file", f"name an existing {kind}")]) from None
    except UnicodeDecodeError:
        raise make_error([Problem(file, 0, 0, "not a text file in UTF-8", f"name a {kind} in YAML")]) from None
    except OSError as error:
        raise make_error([Problem(file, 0, 0, f"cannot be read: {error.strerror}")]) from error
    document = parse_document(text, file)
    if not isinstance(document.content, dict):
        raise make_error([document.place.problem(f"{_a(kind)} must be a mapping, got {describe(document.plain())}")])
    return _versioned(document, kind, known)


def parse_versioned(text: str, file: str, *, kind: str, known: int = 1) -> Value:
    """The document in a text; `file` names it in messages. Raises UsageError as `load_document` does."""
    return _versioned(parse_document(text, file), kind, known)


def _versioned(document: Value, kind: str, known: int) -> Value:
    problems = version_problems(document, kind, known)
    if problems:
        raise make_error(problems)
    return document


def version_problems(document: Value, kind: str, known: int = 1) -> list[Problem]:
    """What is wrong with the document's `version`; one too new says which cumulet to use."""
    version = document.mapping.get("version")
    if version is None:
        return [document.place.problem(f"missing key 'version' in {kind}", "begin with: version: 1")]
    number = version.content
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        return [version.place.problem(f"version: must be a number from 1 to {known}, got {describe(number)}")]
    if number > known:
        message = f"{kind} version {number} needs a newer cumulet; this one, {__version__}, knows up to {known}"
        return [version.place.problem(message, "pip install --upgrade cumulet-board")]
    return []


def parse_document(text: str, file: str) -> Value:
    """The value of a YAML text. Raises UsageError with every problem; `file` names the text in it."""
    problems: list[Problem] = []
    try:
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            value = _convert(node, Place(file, 1, 1), file, problems)
        else:
            problems.append(Problem(file, 1, 1, "is empty"))
    except yaml.MarkedYAMLError as error:
        problems.append(_syntax_problem(error, file))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        problems.append(Problem(file, line, column, f"the character {chr(error.character)!r} is not allowed in YAML"))
    except RecursionError:
        problems.append(Problem(file, 1, 1, "is nested too deeply"))
    if problems:
        raise make_error(problems)
    return value


def validate(model: type[Model], document: Value, kind: str) -> Model:
    """The document as `model`. Raises one UsageError that carries every problem."""
    made, problems = check(model, document, kind)
    if made is None or problems:
        raise make_error(problems)
    return made


def validate_whole(
    model: type[Model], document: Value, kind: str, find_problems: Callable[[Model, Value], Sequence[Problem]]
) -> Model:
    """The same, held against what no single field can know, too. Raises one UsageError that carries every problem."""
    made = validate(model, document, kind)
    problems = find_problems(made, document)
    if problems:
        raise make_error(problems)
    return made


def check(model: type[Model], document: Value, kind: str) -> tuple[Model | None, list[Problem]]:
    """The document as `model` and no problems, or None and every problem."""
    from pydantic import ValidationError  # noqa: PLC0415  (slow to import; parsing alone does not need it)

    from cumulet.core.wording import make_problem  # noqa: PLC0415

    try:
        return model.model_validate(document.plain()), []
    except ValidationError as error:
        return None, [make_problem(model, document, kind, dict(detail)) for detail in error.errors()]


def make_error(problems: Sequence[Problem]) -> UsageError:
    """One error that carries all problems, in the order of their places, each once."""
    ordered = sorted(dict.fromkeys(problems), key=lambda p: (p.file, p.line, p.column))
    if len(ordered) == 1:
        only = ordered[0]
        return UsageError(str(replace(only, hint="")), hint=only.hint, problems=ordered)
    files = list(dict.fromkeys(problem.file for problem in ordered))
    where = f" in {files[0]}" if len(files) == 1 else ""
    return UsageError(f"{len(ordered)} problems{where}", problems=ordered)


def suggest(word: object, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the nearest known word, or an empty text."""
    near = difflib.get_close_matches(str(word), list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def describe(value: object) -> str:
    """A plain value as it is named in a message: `'text'`, `12`, `a list`, `nothing`."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else repr(value)


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


class _Loader(yaml.SafeLoader):
    """YAML's safe loader without aliases, and with so few implicit types that text stays text."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  (PyYAML's own shape)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node; an alias is refused, so that a document is never bigger than its text, and so is a tag."""
        parser: Any = self  # its stubs say nothing about events
        event = parser.peek_event()
        if self.check_event(yaml.AliasEvent):
            message = f"aliases (*{event.anchor}) are not supported"
            raise yaml.composer.ComposerError(None, None, message, event.start_mark)
        if getattr(event, "tag", None) is not None:
            message = f"tags ({event.tag}) are not supported"
            raise yaml.composer.ComposerError(None, None, message, event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"~|null|", ["~", "n", ""]),
    ("bool", r"true|false", ["t", "f"]),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})", list("-+0123456789")),
    ("float", r"[-+]?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,2})?", list("-+0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), _first)
_READERS: dict[str, Callable[[str], Scalar]] = {
    "null": lambda text: None,
    "bool": lambda text: text == "true",
    "int": int,
    "float": float,
    "str": str,
}


def _place(mark: yaml.Mark | None, file: str) -> Place:
    return Place(file, mark.line + 1, mark.column + 1) if mark is not None else Place(file)


def _convert(node: yaml.Node, key: Place, file: str, problems: list[Problem]) -> Value:
    place = _place(node.start_mark, file)
    if isinstance(node, yaml.MappingNode):
        return Value(_convert_mapping(node, file, problems), place, key)
    if isinstance(node, yaml.SequenceNode):
        values = []
        for child in node.value:
            where = _place(child.start_mark, file)
            values.append(_convert(child, where, file, problems))
        return Value(values, place, key)
    return Value(_READERS[node.tag.removeprefix("tag:yaml.org,2002:")](node.value), place, key)


def _convert_mapping(node: yaml.MappingNode, file: str, problems: list[Problem]) -> dict[str, Value]:
    values: dict[str, Value] = {}
    for name, child in node.value:
        place = _place(name.start_mark, file)
        if not isinstance(name, yaml.ScalarNode):
            problems.append(place.problem("a key must be plain text"))
        elif name.value in values:
            first = values[name.value].key.line
            problems.append(place.problem(f"duplicate key {name.value!r}, first on line {first}"))
        else:
            values[name.value] = _convert(child, place, file, problems)
    return values


def _syntax_problem(error: yaml.MarkedYAMLError, file: str) -> Problem:
    text = (error.problem or "cannot be parsed").strip()
    place = _place(error.problem_mark or error.context_mark, file)
    if "'\\t'" in text:
        return place.problem("not valid YAML: a tab where spaces belong", "indent with spaces")
    if text == "but found another document":
        return place.problem("holds more than one document", "write one document per file, without `---` between")
    if text.endswith("are not supported"):
        return place.problem(text, "write the value out")
    if text == "mapping values are not allowed here":
        return place.problem(f"not valid YAML: {text}", "put text that holds ': ' in quotes, and check the indentation")
    return place.problem(f"not valid YAML: {text}")
