"""Reading device tree blobs: nodes with their properties as bytes, and which of them are enabled.

The format is that of the Devicetree Specification, version 17. The Python libraries for it either guess the type of
every property or have no wheels, and this is the part of them that is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from cumulet.core.errors import ToolError

MAGIC = bytes.fromhex("d00dfeed")
BEGIN, END, PROPERTY, NOTHING, LAST = 1, 2, 3, 4, 9
ON = (b"okay", b"ok")


@dataclass(frozen=True)
class DeviceTree:
    """The nodes of a blob by path (`/soc@0/ufshc@1d84000`); properties are bytes, as they stand in it."""

    name: str
    nodes: Mapping[str, Mapping[str, bytes]]

    @property
    def model(self) -> str:
        """What the board calls itself."""
        return next(iter(strings(self.nodes["/"].get("model", b""))), "")

    def compatibles(self, path: str) -> tuple[str, ...]:
        """The compatibles of a node, best one first."""
        return strings(self.nodes[path].get("compatible", b""))

    def enabled(self, path: str) -> bool:
        """Whether neither the node nor one above it is switched off."""
        return all(self.nodes[each].get("status", b"okay").rstrip(b"\0") in ON for each in (path, *parents(path)))

    def devices(self) -> Iterator[tuple[str, tuple[str, ...]]]:
        """(path, compatibles) of every enabled node that a driver may want, the root node left out."""
        for path in self.nodes:
            if path != "/" and "compatible" in self.nodes[path] and self.enabled(path):
                yield path, self.compatibles(path)

    def phandles(self) -> dict[int, str]:
        """Phandle -> path of the node that has it."""
        found = {}
        for path, properties in self.nodes.items():
            for name in ("phandle", "linux,phandle"):
                if len(properties.get(name, b"")) == 4:
                    found[words(properties[name])[0]] = path
        return found


def read_device_tree(data: bytes, name: str) -> DeviceTree:
    """The tree in a blob. Raises ToolError naming `name` if it is none."""
    if data[:4] != MAGIC:
        raise ToolError(f"{name}: not a device tree blob", hint="name another device tree in the board")
    try:
        _, _, start, texts = struct.unpack_from(">4I", data)
        return DeviceTree(name, dict(_read_nodes(data, start, texts)))
    except (struct.error, ValueError, IndexError) as error:
        raise ToolError(f"{name}: a damaged device tree blob: {error}", hint="get its package anew") from error


def _read_nodes(data: bytes, position: int, texts: int) -> Iterator[tuple[str, dict[str, bytes]]]:
    path: list[str] = []
    open_nodes: list[dict[str, bytes]] = []
    while True:
        token = struct.unpack_from(">I", data, position)[0]
        position += 4
        if token == BEGIN:
            end = data.index(b"\0", position)
            path.append(data[position:end].decode())
            position = end + 4 & ~3
            open_nodes.append({})
            yield "/".join(path) or "/", open_nodes[-1]
        elif token == PROPERTY:
            size, offset = struct.unpack_from(">2I", data, position)
            key = data[texts + offset : data.index(b"\0", texts + offset)].decode()
            open_nodes[-1][key] = data[position + 8 : position + 8 + size]
            position += 8 + (size + 3 & ~3)
        elif token == END:
            path.pop()
            open_nodes.pop()
        elif token == LAST:
            return
        elif token != NOTHING:
            raise ValueError(f"unknown token {token}")


def parents(path: str) -> Iterator[str]:
    """The paths above one, nearest first, down to `/`."""
    while path != "/":
        path = path.rpartition("/")[0] or "/"
        yield path


def strings(value: bytes) -> tuple[str, ...]:
    """A property that is a list of texts."""
    return tuple(part.decode(errors="replace") for part in value.split(b"\0") if part)


def words(value: bytes) -> tuple[int, ...]:
    """A property that is a list of numbers of 32 bits; what does not fill one at its end is left out."""
    return struct.unpack(f">{len(value) // 4}I", value[: len(value) // 4 * 4])
