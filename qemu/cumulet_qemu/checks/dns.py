"""The little of the DNS message format that asks for one address and reads the answer. Pure."""

from __future__ import annotations

import struct

HEADER = struct.Struct(">HHHHHH")
RECORD = struct.Struct(">HHIH")
TYPE_A, CLASS_IN = 1, 1
NUMBER = 0x4355


def make_query(name: str) -> bytes:
    """A query for the IPv4 addresses of `name`."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return HEADER.pack(NUMBER, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", TYPE_A, CLASS_IN)


def parse_addresses(message: bytes) -> list[str]:
    """The IPv4 addresses in an answer to `make_query`. Raises ValueError if it is no answer to it."""
    if len(message) < HEADER.size:
        raise ValueError(f"no DNS message: {message.hex()}")
    number, flags, questions, answers, _, _ = HEADER.unpack_from(message)
    if number != NUMBER or not flags & 0x8000 or flags & 0xF:
        raise ValueError(f"not a good answer: number {number:#x}, flags {flags:#06x}")
    place = HEADER.size
    for _ in range(questions):
        place = _skip_name(message, place) + 4
    found = []
    for _ in range(answers):
        place = _skip_name(message, place)
        kind, _, _, length = RECORD.unpack_from(message, place)
        place += RECORD.size
        if kind == TYPE_A:
            found.append(".".join(map(str, message[place : place + length])))
        place += length
    return found


def _skip_name(message: bytes, place: int) -> int:
    while message[place]:
        if message[place] >= 0xC0:  # a pointer ends the name
            return place + 2
        place += message[place] + 1
    return place + 1
