"""One thing that goes upward: its id, where it is from, what it is, and the digest of its content."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cumulet.core.errors import UsageError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
DIGEST = re.compile(r"[0-9a-f]{64}")
LARGEST_META = 4096


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one piece of content.

    `id` is unique below `origin`, the cluster where it was made; both stay the same on the whole way up.
    `size` counts bytes, `created` seconds since 1970 by the origin's clock. `topic` is a traffic class.
    """

    id: str
    origin: str
    topic: str
    size: int
    sha256: str
    created: float
    meta: Mapping[str, str] = field(default_factory=dict)


def make_id() -> str:
    """An id for content whose maker has none: without one of its own, what is put twice counts twice."""
    return uuid.uuid4().hex


def check_entry(entry: Entry) -> None:
    """Raise UsageError if an entry has names that are no names, or a size or digest that cannot be."""
    for what, text in (("id", entry.id), ("origin", entry.origin), ("topic", entry.topic)):
        if not NAME.fullmatch(text):
            raise UsageError(
                f"{what} {text[:140]!r}: not a name", hint="letters, digits, '.', '_' and '-', at most 128"
            )
    if entry.size < 0 or not DIGEST.fullmatch(entry.sha256):
        raise UsageError(f"{entry.origin}/{entry.id}: size {entry.size} and digest {entry.sha256!r} cannot be")
    if any(not isinstance(item, str) for pair in entry.meta.items() for item in pair):
        raise UsageError(f"{entry.origin}/{entry.id}: its remarks must be texts")
    if len(json.dumps(dict(entry.meta))) > LARGEST_META:
        raise UsageError(f"{entry.origin}/{entry.id}: its remarks are longer than {LARGEST_META} bytes")


def dump_entry(entry: Entry) -> str:
    """An entry as JSON."""
    fields = {name: getattr(entry, name) for name in ("id", "origin", "topic", "size", "sha256", "created")}
    return json.dumps({"version": 1, **fields, "meta": dict(entry.meta)}, sort_keys=True)


def load_entry(text: str) -> Entry:
    """The entry of a JSON text. Raises UsageError if it is none."""
    try:
        given: dict[str, Any] = json.loads(text)
        made = Entry(
            id=str(given["id"]),
            origin=str(given["origin"]),
            topic=str(given["topic"]),
            size=int(given["size"]),
            sha256=str(given["sha256"]),
            created=float(given["created"]),
            meta={str(name): str(value) for name, value in given.get("meta", {}).items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"not an entry of a spool: {text[:80]!r}") from error
    check_entry(made)
    return made
