"""Small device tree blobs, written by the Devicetree Specification and not by what reads them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

Value = str | int | bytes | Sequence[str | int]


def make_dtb(nodes: Mapping[str, Mapping[str, Value]]) -> bytes:
    """A blob of nodes by path, parents first; a property is text, a number, a list of either, or bytes."""
    names: list[str] = []
    children: dict[str, list[str]] = {path: [] for path in nodes}
    for path in nodes:
        if path != "/":
            children[path.rpartition("/")[0] or "/"].append(path)

    def node(path: str) -> bytes:
        name = "" if path == "/" else path.rpartition("/")[2]
        body = struct.pack(">I", 1) + pad(name.encode() + b"\0")
        for key, value in nodes[path].items():
            if key not in names:
                names.append(key)
            data = encode(value)
            offset = sum(len(each) + 1 for each in names[: names.index(key)])
            body += struct.pack(">3I", 3, len(data), offset) + pad(data)
        return body + b"".join(node(child) for child in children[path]) + struct.pack(">I", 2)

    tree = node("/") + struct.pack(">I", 9)
    texts = b"".join(name.encode() + b"\0" for name in names)
    start = 40 + 16
    sizes = (start + len(tree) + len(texts), start, start + len(tree), 40, 17, 16, 0, len(texts), len(tree))
    return struct.pack(">10I", 0xD00DFEED, *sizes) + b"\0" * 16 + tree + texts


def encode(value: Value) -> bytes:
    """The bytes of a property."""
    if isinstance(value, bytes):
        return value
    parts = [value] if isinstance(value, str | int) else value
    return b"".join(part.encode() + b"\0" if isinstance(part, str) else struct.pack(">I", part) for part in parts)


def pad(data: bytes) -> bytes:
    """Filled up to whole words."""
    return data + b"\0" * (-len(data) % 4)
