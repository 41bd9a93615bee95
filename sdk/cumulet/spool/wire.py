"""How content travels: the tus protocol 1.0.0 (creation and core) with our ids in `Upload-Metadata`.

Both ends use the names and the coding of here, so that they cannot differ.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping

from cumulet.core.errors import UsageError
from cumulet.spool.entry import Entry, check_entry

TUS = "1.0.0"
ROOT = "/results"
PIECE_TYPE = "application/offset+octet-stream"
LARGEST_METADATA = 16384


def make_metadata(entry: Entry) -> str:
    """An entry as the value of `Upload-Metadata`; its size travels in `Upload-Length`."""
    fields = {
        "id": entry.id,
        "origin": entry.origin,
        "topic": entry.topic,
        "sha256": entry.sha256,
        "created": repr(entry.created),
        "meta": json.dumps(dict(entry.meta), sort_keys=True),
    }
    return ",".join(f"{name} {base64.b64encode(text.encode()).decode()}" for name, text in fields.items())


def read_metadata(headers: Mapping[str, str]) -> Entry:
    """The entry that the headers of a creation announce. Raises UsageError if they announce none."""
    text = headers.get("Upload-Metadata", "")
    if len(text) > LARGEST_METADATA:
        raise UsageError(f"Upload-Metadata has {len(text)} bytes, at most {LARGEST_METADATA} are taken")
    fields = {}
    try:
        for pair in text.split(","):
            name, _, value = pair.strip().partition(" ")
            fields[name] = base64.b64decode(value, validate=True).decode()
        meta = json.loads(fields.get("meta", "{}"))
        if not isinstance(meta, dict):
            raise UsageError("Upload-Metadata: meta must be an object of texts")
        made = Entry(
            id=fields["id"],
            origin=fields["origin"],
            topic=fields["topic"],
            size=int(headers.get("Upload-Length", "")),
            sha256=fields["sha256"],
            created=float(fields["created"]),
            meta=meta,
        )
    except KeyError as error:
        raise UsageError(f"Upload-Metadata: {error.args[0]} is missing") from error
    except (binascii.Error, ValueError) as error:
        raise UsageError(f"Upload-Metadata or Upload-Length cannot be read: {error}") from error
    check_entry(made)
    return made


def make_path(entry: Entry) -> str:
    """Where an entry is on the other side."""
    return f"{ROOT}/{entry.origin}/{entry.id}"
