"""The format of FlatBuffers, as far as writing a file needs it: parents first, what they refer to behind them."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

VECTOR_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class Number:
    """A number stored in its table: `form` is a letter of the struct module."""

    form: str
    value: float


@dataclass(frozen=True, slots=True)
class Table:
    """Field number -> value. Fields that are not there have the schema's default."""

    fields: Mapping[int, Number | Table | str | bytes | Sequence[int] | Sequence[Table]]


def encode(root: Table, identifier: bytes) -> bytes:
    """The whole file; `identifier` are the four letters behind the offset of the root."""
    out = bytearray(4) + identifier
    _point(out, 0, _write_table(out, root))
    return bytes(out)


def _point(out: bytearray, place: int, target: int) -> None:
    struct.pack_into("<I", out, place, target - place)


def _align(out: bytearray, size: int) -> None:
    out.extend(bytes(-len(out) % size))


def _write_table(out: bytearray, table: Table) -> int:
    """Write the list of offsets, the table, then what it refers to; gives the table's place."""
    layout, size = _lay_out(table)
    slots = max(layout, default=-1) + 1
    _align(out, 4)
    # The table's own first word lies on four bytes; the list before it has two bytes a slot.
    if (4 + 2 * slots) % 4:
        out.extend(bytes(2))
    offsets = len(out)
    out.extend(struct.pack("<HH", 4 + 2 * slots, size))
    out.extend(b"".join(struct.pack("<H", layout.get(slot, 0)) for slot in range(slots)))
    start = len(out)
    out.extend(struct.pack("<i", start - offsets) + bytes(size - 4))
    for number, place in layout.items():
        value = table.fields[number]
        if isinstance(value, Number):
            struct.pack_into(f"<{value.form}", out, start + place, value.value)
        else:
            _point(out, start + place, _write_value(out, value))
    return start


def _lay_out(table: Table) -> tuple[dict[int, int], int]:
    """(field number -> place in the table, size of the table): each on a multiple of its own size."""
    place, layout = 4, {}
    for number, value in sorted(table.fields.items()):
        size = struct.calcsize(value.form) if isinstance(value, Number) else 4
        place += -place % size
        layout[number] = place
        place += size
    return layout, place + -place % 4


def _write_value(out: bytearray, value: Table | str | bytes | Sequence[int] | Sequence[Table]) -> int:
    if isinstance(value, Table):
        return _write_table(out, value)
    if isinstance(value, str):
        return _write_vector(out, len(value.encode()), value.encode() + b"\0", 4)
    if isinstance(value, bytes):
        return _write_vector(out, len(value), value, VECTOR_ALIGNMENT)
    numbers = [each for each in value if isinstance(each, int)]
    tables = [each for each in value if isinstance(each, Table)]
    if not tables:
        return _write_vector(out, len(numbers), struct.pack(f"<{len(numbers)}i", *numbers), 4)
    start = _write_vector(out, len(tables), bytes(4 * len(tables)), 4)
    for place, table in enumerate(tables):
        _point(out, start + 4 + 4 * place, _write_table(out, table))
    return start


def _write_vector(out: bytearray, count: int, content: bytes, alignment: int) -> int:
    """The count, then the content on a multiple of `alignment`."""
    out.extend(bytes(-(len(out) + 4) % alignment))
    start = len(out)
    out.extend(struct.pack("<I", count) + content)
    return start
