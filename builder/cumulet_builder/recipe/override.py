"""`--set key=value` and `--set key+=value`: values of the command line, put over a document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

from pydantic import BaseModel

from cumulet.core.documents import Key, Place, Value, parse_document
from cumulet.core.errors import Problem, UsageError
from cumulet_builder.recipe.merge import merge_values, put_value

HINT = "write it as --set key=value, or --set key+=value to append to a list"


@dataclass(frozen=True)
class Override:
    """One `--set`: where, whether to append, and what. Its place is the option itself."""

    key: Key
    append: bool
    value: Value


def parse_overrides(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides in texts such as `disk.root=400MiB`, and what is wrong with others."""
    found: list[Override] = []
    problems: list[Problem] = []
    for text in texts:
        place = Place(f"--set {text}")
        name, equals, written = text.partition("=")
        append = name.endswith("+")
        key = tuple(name.removesuffix("+").strip().split("."))
        if not equals:
            problems.append(place.problem("there is no '=' in it", HINT))
        elif not all(key):
            problems.append(
                place.problem("there is no key before the '='" if key == ("",) else "a part of the key is empty", HINT)
            )
        else:
            try:
                found.append(Override(key, append, _parse(written, place)))
            except UsageError as error:
                problems += [replace(problem, file=place.file, line=0, column=0) for problem in error.problems]
    return found, problems


def apply_overrides(
    document: Value, overrides: Sequence[Override], model: type[BaseModel]
) -> tuple[Value, list[Problem]]:
    """The document with every override put in, in order; `model` gives the defaults that `+=` appends to."""
    problems: list[Problem] = []
    for each in overrides:
        try:
            document = put_value(document, each.key, _new_value(document, each, model))
        except ValueError as error:
            problems.append(each.value.place.problem(str(error) or "the key leads through a value that is no mapping"))
    return document, problems


def _parse(written: str, place: Place) -> Value:
    if not written.strip():
        return Value(None, place, place)
    return _at(parse_document(written, place.file), place)


def _at(value: Value, place: Place) -> Value:
    """The value with every place in it replaced: inside an option there are no lines."""
    content: Any = value.content
    if isinstance(content, dict):
        content = {name: _at(each, place) for name, each in content.items()}
    elif isinstance(content, list):
        content = [_at(each, place) for each in content]
    return Value(content, place, place)


def _new_value(document: Value, each: Override, model: type[BaseModel]) -> Value:
    if not each.append:
        return each.value
    old = document.at(each.key)
    if old is None:
        old = _default(model, each)
    if not isinstance(old.content, list):
        raise ValueError(f"{'.'.join(map(str, each.key))} is not a list, so += cannot append to it")
    more = each.value if isinstance(each.value.content, list) else replace(each.value, content=[each.value])
    return merge_values([old, more])


def _default(model: type[BaseModel], each: Override) -> Value:
    """The default list at the override's key, which is what `cumulet show` shows there."""
    place = each.value.place
    default: Any = ()
    part: type[BaseModel] | None = model
    for step in each.key:
        field = part.model_fields.get(str(step)) if part is not None else None
        default = field.default if field is not None else ()
        part = _part_of(field.annotation) if field is not None else None
    words = default if isinstance(default, tuple) else ()
    return Value([Value(word, place, place) for word in words], place, place)


def _part_of(annotation: object) -> type[BaseModel] | None:
    arms = [annotation, *get_args(annotation)]
    return next((arm for arm in arms if isinstance(arm, type) and issubclass(arm, BaseModel)), None)


def split_overrides(overrides: Sequence[Override], names: Sequence[str]) -> tuple[list[Override], list[Override]]:
    """Those that set one of the top keys `names` as a whole, and the others."""
    first = [each for each in overrides if len(each.key) == 1 and each.key[0] in names]
    return first, [each for each in overrides if each not in first]
