"""The part of Kubernetes' JSONPath that feedback rules use: `.a.b`, `[0]`, `[?(@.type=="Ready")]`."""

from __future__ import annotations

import re
from typing import Any

STEP = re.compile(
    r"""\.(?P<name>[A-Za-z0-9_\-/]+(?:\\\.[A-Za-z0-9_\-/]+)*)"""
    r"""|\['(?P<quoted>[^']+)'\]|\[(?P<index>-?\d+)\]"""
    r"""|\[\?\(@\.(?P<key>[A-Za-z0-9_.\-]+)\s*==\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)')\)\]"""
)


def find_value(document: Any, path: str) -> Any:
    """What is at a path, or None. Raises ValueError for a path that is not understood."""
    found = document
    for step in parse_path(path):
        found = step_into(found, step)
        if found is None:
            return None
    return found


def parse_path(path: str) -> list[str | int | tuple[str, str]]:
    """A path as steps: names, positions, and (key, value) for the first item that has it."""
    text = path.strip().removeprefix("{").removesuffix("}").removeprefix("$")
    text = text if text[:1] in (".", "[", "") else f".{text}"
    steps: list[str | int | tuple[str, str]] = []
    position = 0
    while position < len(text):
        match = STEP.match(text, position)
        if match is None:
            raise ValueError(f"path {path!r} is not understood from {text[position:]!r} on")
        if match["name"] is not None:
            steps.append(match["name"].replace("\\.", "."))
        elif match["quoted"] is not None:
            steps.append(match["quoted"])
        elif match["index"] is not None:
            steps.append(int(match["index"]))
        else:
            steps.append((match["key"], match["double"] if match["double"] is not None else match["single"]))
        position = match.end()
    return steps


def step_into(found: Any, step: str | int | tuple[str, str]) -> Any:
    """One step further, or None."""
    if isinstance(step, str):
        return found.get(step) if isinstance(found, dict) else None
    if not isinstance(found, list):
        return None
    if isinstance(step, int):
        return found[step] if -len(found) <= step < len(found) else None
    key, value = step
    return next((each for each in found if isinstance(each, dict) and str(find_value(each, f".{key}")) == value), None)
