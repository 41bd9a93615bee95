"""The words for what a model finds wrong in a document: pydantic's findings in plain language."""

from __future__ import annotations

import re
import types
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from cumulet.core.documents import Key, Value, describe, suggest
from cumulet.core.errors import Problem

BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
TYPES = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping",
    "model": "a mapping",
}


def make_problem(model: type[BaseModel], document: Value, kind: str, detail: Mapping[str, Any]) -> Problem:
    """The problem for one entry of `ValidationError.errors()`, at the place of the value it is about."""
    finding = str(detail["type"])
    key, rest = _locate(document, tuple(detail["loc"]))
    value = document.at(key)
    assert value is not None  # noqa: S101  (_locate returns only keys that exist)
    if finding == "extra_forbidden":
        known = fields_at(model, key[:-1])
        hint = suggest(key[-1], known) or f"known keys: {', '.join(known)}"
        return value.key.problem(f"unknown key {str(key[-1])!r} in {_where(key[:-1], kind)}", hint)
    if finding == "missing":
        return value.place.problem(f"missing key {str(rest[0])!r} in {_where(key, kind)}")
    if rest == ("[key]",):
        place, message, hint = value.key, *_wording(finding, key[-1], detail.get("ctx", {}))
        return place.problem(f"{_where(key[:-1], kind)}: {message}", hint)
    if want_hidden(model, key):
        return value.place.problem(f"{_where(key, kind)}: not right; what is there is not shown, it may be a secret")
    message, hint = _wording(finding, value.plain(), detail.get("ctx", {}), str(detail["msg"]))
    return value.place.problem(f"{_where(key, kind)}: {message}", hint)


def fields_at(annotation: Any, key: Key) -> list[str]:
    """The keys that a document of type `annotation` may have at `key`; none where it is not a model."""
    if get_origin(annotation) in (Union, types.UnionType):
        return [name for arm in get_args(annotation) for name in fields_at(arm, key)]
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    if not key:
        return [field.alias or name for name, field in annotation.model_fields.items()] if is_model else []
    if is_model:
        named = {field.alias or name: field for name, field in annotation.model_fields.items()}
        field = named.get(str(key[0]))
        return fields_at(field.annotation, key[1:]) if field is not None else []
    inner = [arm for arm in get_args(annotation) if arm is not Ellipsis]
    if not inner:
        return []
    return fields_at(inner[-1] if isinstance(key[0], str) else inner[0], key[1:])


def want_hidden(annotation: Any, key: Key) -> bool:
    """Whether what stands where a part with secrets belongs must not be told: its model hides its input in errors."""
    if get_origin(annotation) in (Union, types.UnionType):
        return any(want_hidden(arm, key) for arm in get_args(annotation))
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return False
    if annotation.model_config.get("hide_input_in_errors") and not key:
        return True
    named = {field.alias or name: field for name, field in annotation.model_fields.items()}
    field = named.get(str(key[0])) if key else None
    return field is not None and want_hidden(field.annotation, key[1:])


def write_key(key: Key) -> str:
    """A key as it is read aloud: `files[0].mode`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in key)
    return text.removeprefix(".")


def _locate(document: Value, loc: Key) -> tuple[Key, Key]:
    """The part of pydantic's location that is in the document, and the last step if that is not.

    Names of union arms stand inside a location too; they are left out.
    """
    key: Key = ()
    for step in loc:
        if document.at((*key, step)) is not None:
            key = (*key, step)
    missing = loc[-1:] if not key or loc[-1:] != key[-1:] else ()
    return key, missing


def _where(key: Key, kind: str) -> str:
    return write_key(key) or kind


def _wording(finding: str, value: object, context: Mapping[str, Any], fallback: str = "") -> tuple[str, str]:
    """(message, hint) for a finding about a value."""
    if finding == "value_error":
        return str(context["error"]), ""
    hint = ""
    expected = TYPES.get(re.sub(r"_(type|parsing|from_float|attributes_type|parsing_size)$", "", finding))
    if finding == "literal_error":
        known = re.findall(r"'([^']*)'", str(context["expected"])) or [str(context["expected"])]
        words = f"must be one of {', '.join(known)}" if len(known) > 1 else f"must be {known[0]}"
        hint = suggest(value, known)
    elif finding in BOUNDS:
        words = f"must be {BOUNDS[finding][0]} {context[BOUNDS[finding][1]]}"
    elif finding == "string_too_long":
        words = f"must be at most {context['max_length']} letters long"
    elif finding == "string_pattern_mismatch":
        words = f"must match {context['pattern']}"
    elif expected is not None:
        words, hint = f"must be {expected}", _type_hint(expected, value)
    else:
        words = f"{fallback[:1].lower()}{fallback[1:]}"
    return f"{words}, got {describe(value)}", hint


def _type_hint(expected: str, value: object) -> str:
    if isinstance(value, dict | list):
        return ""
    if value is None:
        return "leave the key out, or give it a value"
    if expected == "a list":
        return f"write it in brackets: [{value}]"
    return "put it in quotes" if expected == "text" else ""
