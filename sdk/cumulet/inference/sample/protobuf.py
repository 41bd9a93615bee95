"""The wire format of protocol buffers, as far as writing a message needs it."""

from __future__ import annotations

import struct
from collections.abc import Iterable

Part = tuple[int, int | float | str | bytes | Iterable[bytes]]
"""(field number, value): a number, text, bytes, or an encoded message; several messages for a repeated field."""
VARINT, LENGTH, FIXED32 = 0, 2, 5


def encode(*parts: Part) -> bytes:
    """A message of these fields, in this order."""
    return b"".join(_encode_field(number, value) for number, value in parts)


def _encode_field(number: int, value: int | float | str | bytes | Iterable[bytes]) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3 | VARINT) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | FIXED32) + struct.pack("<f", value)
    if isinstance(value, str):
        value = value.encode()
    if isinstance(value, bytes):
        return _varint(number << 3 | LENGTH) + _varint(len(value)) + value
    return b"".join(_encode_field(number, each) for each in value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
