"""How fragments become one document: mappings merge, lists append without duplicates, of scalars the later wins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cumulet.core.documents import Key, Value


def merge_values(values: Sequence[Value]) -> Value:
    """One value of many, in order. Every part keeps the place where it was written."""
    merged = values[0]
    for value in values[1:]:
        merged = _merge_two(merged, value)
    return merged


def put_value(document: Value, key: Key, value: Value) -> Value:
    """The document with `value` at `key`; mappings on the way are made where they are missing.

    Raises ValueError with the key of a value on the way that is not a mapping.
    """
    if not key:
        return value
    if not isinstance(document.content, dict):
        raise ValueError
    name = str(key[0])
    below = document.content.get(name)
    if below is None or below.content is None:
        below = Value({}, value.place, value.key)
    return replace(document, content={**document.content, name: put_value(below, key[1:], value)})


def drop_keys(document: Value, names: Sequence[str]) -> Value:
    """A mapping without some of its keys."""
    kept = {name: value for name, value in document.mapping.items() if name not in names}
    return replace(document, content=kept)


def _merge_two(old: Value, new: Value) -> Value:
    if isinstance(old.content, dict) and isinstance(new.content, dict):
        both = dict(old.content)
        for name, value in new.content.items():
            both[name] = _merge_two(both[name], value) if name in both else value
        return replace(new, content=both)
    if isinstance(old.content, list) and isinstance(new.content, list):
        seen = [value.plain() for value in old.content]
        added = [value for value in new.content if value.plain() not in seen]
        return replace(new, content=[*old.content, *added])
    return new
