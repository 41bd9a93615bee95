"""The text of a resolved recipe, and where each of its values was written."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml

from cumulet.core.documents import Key, Place, parse_document
from cumulet.core.errors import UsageError
from cumulet.core.wording import write_key
from cumulet_builder.recipe.load import Resolved

COLUMN = 44


def make_origins(resolved: Resolved) -> dict[str, str]:
    """Key of every single value (`disk.root`, `packages[0]`) -> `file:line`, or `default`."""
    return {write_key(key): _origin(resolved, key) for key, _ in _leaves(resolved.recipe.model_dump(mode="json"), ())}


def make_lines(resolved: Resolved, with_origin: bool) -> Iterator[str]:
    """The recipe as lines of YAML; with origins as comments beside the values."""
    for key, text in _lines(resolved.recipe.model_dump(mode="json"), (), ""):
        yield f"{text:<{COLUMN}}  # {_origin(resolved, key)}" if with_origin and key else text


def _leaves(value: Any, key: Key) -> Iterator[tuple[Key, Any]]:
    if isinstance(value, dict) and value:
        for name, each in value.items():
            yield from _leaves(each, (*key, name))
    elif isinstance(value, list) and value:
        for index, each in enumerate(value):
            yield from _leaves(each, (*key, index))
    else:
        yield key, value


def _lines(value: Any, key: Key, indent: str) -> Iterator[tuple[Key, str]]:
    """(key of the value on the line or (), line) for a mapping or list that is not empty."""
    entries = value.items() if isinstance(value, dict) else enumerate(value)
    for name, each in entries:
        head = f"{indent}{name}:" if isinstance(value, dict) else f"{indent}-"
        if isinstance(each, dict | list) and each:
            yield (), head
            yield from _lines(each, (*key, name), f"{indent}  ")
        else:
            yield (*key, name), f"{head} {write_scalar(each)}"


def write_scalar(value: Any) -> str:
    """A scalar as YAML on one line, in quotes where any reader of YAML would take it for something else."""
    if not isinstance(value, str):
        return json.dumps(value)
    try:
        text, same = f"key: {value}", {"key": value}
        plain = parse_document(text, "").plain() == same and yaml.safe_load(text) == same
    except (UsageError, yaml.YAMLError, ValueError):
        plain = False
    return value if plain and value.isprintable() else json.dumps(value, ensure_ascii=False)


def _origin(resolved: Resolved, key: Key) -> str:
    value = resolved.document.at(key)
    if value is None:
        return "default"
    return _write_place(value.place)


def _write_place(place: Place) -> str:
    return f"{place.file}:{place.line}" if place.line else place.file
