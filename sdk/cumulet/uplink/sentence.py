"""Sentences on a serial line: `$ADDRESS,field,...*HH`, with the XOR of what is between as two digits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from cumulet.core.errors import TargetError, UsageError

LONGEST = 8192


def make_checksum(text: bytes) -> int:
    """The XOR of all bytes between `$` and `*`."""
    value = 0
    for byte in text:
        value ^= byte
    return value


def make_sentence(*fields: str) -> bytes:
    """A sentence with its end of line. Raises UsageError for a field that cannot be in one."""
    for each in fields:
        if not each.isascii() or any(sign in each for sign in ",*$\r\n"):
            raise UsageError(f"{each[:40]!r}: cannot be a field of a sentence")
    text = ",".join(fields).encode()
    return b"$%s*%02X\r\n" % (text, make_checksum(text))


def read_sentence(line: bytes) -> tuple[str, ...]:
    """The fields of a line, the address first. Raises TargetError if it is no sentence or was damaged on its way."""
    text, star, check = line.strip().removeprefix(b"$").rpartition(b"*")
    if not line.strip().startswith(b"$") or not star or not text.isascii():
        raise TargetError(f"not a sentence: {line[:60]!r}")
    try:
        damaged = len(check) != 2 or int(check, 16) != make_checksum(text)
    except ValueError:
        damaged = True
    if damaged:
        raise TargetError(f"a damaged sentence: {line[:60]!r} has checksum {make_checksum(text):02X}")
    return tuple(text.decode().split(","))


@dataclass(slots=True)
class Lines:
    """Cuts what comes from a line into sentences, wherever the pieces begin and end."""

    held: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are whole now. Rubbish without an end of line is thrown away."""
        self.held += data
        while (end := self.held.find(b"\n")) >= 0:
            line, self.held = bytes(self.held[:end]), self.held[end + 1 :]
            start = line.rfind(b"$")
            if start >= 0:
                yield line[start:]
        if len(self.held) > LONGEST:
            self.held.clear()


def number(fields: Sequence[str], at: int, what: str) -> int:
    """A field as a number. Raises TargetError naming the sentence if there is none."""
    try:
        return int(fields[at])
    except (IndexError, ValueError):
        raise TargetError(f"{fields[0] if fields else 'a sentence'}: {what} is not a number") from None
