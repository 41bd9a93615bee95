"""What a Beidou terminal is told and says: RDSS 2.1 sentences, and those of terminals of the third generation.

    2.1   CCICA -> BDICI   CCRMO,BSI -> BDBSI   CCTXA -> BDFKI   BDTXR   (one message: 70 bytes and a little more)
    3     CCICR -> BDICP   CCRMO,PWI -> BDPWI   CCTCQ -> BDFKI   BDTCI   (regional: 14,000 bits, 1,750 bytes)

Pure: bytes in, values out, and the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from cumulet.core.errors import TargetError, UsageError
from cumulet.uplink.sentence import make_sentence, number, read_sentence

Dialect = Literal["2.1", "3"]
Service = Literal["global", "regional"]
LIMITS: dict[Service, int] = {"global": 70, "regional": 1750}
# A 2.1 terminal has the long message of no service.
LONGEST_21 = 77
MIXED_MARK = "A4"
# Of a third-generation terminal, for the regional service.
FREQUENCY, NO_RECEIPT, CODE, ONCE = "2", "1", "2", "0"
REASONS = {
    1: "too early",
    2: "emission is inhibited",
    3: "radio silence is set",
    4: "power is not locked",
    5: "no card",
    6: "the card may not",
}


@dataclass(frozen=True, slots=True)
class Card:
    """The card in the terminal; `number` is empty without one. `period`: seconds between two messages."""

    number: str
    period: int
    level: int


@dataclass(frozen=True, slots=True)
class Feedback:
    """What became of a request: sent, or the reason why not and how many seconds to wait."""

    request: str
    sent: bool
    reason: str
    wait: int


@dataclass(frozen=True, slots=True)
class Message:
    """A message that has come in."""

    sender: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Beams:
    """The signal of each beam, in the terminal's own steps; 0 is none."""

    power: tuple[int, ...]

    @property
    def usable(self) -> bool:
        """Whether a message has a chance: one beam with a signal."""
        return any(self.power)


Report = Card | Feedback | Message | Beams


def make_card_query(dialect: Dialect) -> bytes:
    """Ask for the card."""
    return make_sentence("CCICA" if dialect == "2.1" else "CCICR", "0", "00")


def make_beam_query(dialect: Dialect, seconds: int) -> bytes:
    """Ask for the beams every so many seconds."""
    return make_sentence("CCRMO", "BSI" if dialect == "2.1" else "PWI", "2", str(seconds))


def make_transmission(dialect: Dialect, address: str, data: bytes) -> bytes:
    """Send `data` to the card number `address`. Raises UsageError if it is too long or the number is none."""
    longest = LONGEST_21 if dialect == "2.1" else LIMITS["regional"]
    if not address.isdigit() or len(address) > 10:
        raise UsageError(f"{address!r}: not the number of a Beidou card")
    if not 0 < len(data) <= longest:
        raise UsageError(f"a message of {len(data)} bytes: 1 to {longest} go")
    if dialect == "2.1":
        return make_sentence("CCTXA", address.zfill(7), "1", "2", MIXED_MARK + data.hex().upper())
    return make_sentence("CCTCQ", address, FREQUENCY, NO_RECEIPT, CODE, data.hex().upper(), ONCE)


def read_report(line: bytes) -> Report | None:
    """What a terminal's line says; None for a sentence that is of no use here. Raises TargetError if it is damaged."""
    fields = read_sentence(line)
    reader = READERS.get(fields[0])
    return reader(fields) if reader is not None else None


def _read_card_21(fields: Sequence[str]) -> Card:
    return _make_card(fields, number(fields, 5, "its frequency of service"), number(fields, 6, "its level"))


def _read_card_3(fields: Sequence[str]) -> Card:
    return _make_card(fields, number(fields, 14, "its frequency of service"), number(fields, 15, "its level"))


def _make_card(fields: Sequence[str], period: int, level: int) -> Card:
    present = number(fields, 1, "its number") != 0
    return Card(fields[1] if present else "", period, level)


def _read_feedback(fields: Sequence[str]) -> Feedback:
    """Both generations call it BDFKI; the second field of the third one's is the request, the first a time."""
    if len(fields) < 5:
        raise TargetError(f"{','.join(fields)}: too short for a feedback")
    if fields[1].isalpha():
        inhibited = number(fields, 4, "its inhibition")
        wait = fields[5] if len(fields) > 5 and len(fields[5]) == 4 and fields[5].isdigit() else "0000"
        seconds = int(wait[:2]) * 60 + int(wait[2:])
        reason = "emission is inhibited" if inhibited else "too early" if seconds else "refused"
        return _make_feedback(fields[1], fields[2] == "Y", reason, seconds)
    reason = REASONS.get(int(fields[4]) if fields[4].isdigit() else 0, "refused")
    wait = fields[5] if len(fields) > 5 else ""
    return _make_feedback(fields[2], fields[3] == "Y", reason, int(wait) if wait.isdigit() else 0)


def _make_feedback(request: str, sent: bool, reason: str, wait: int) -> Feedback:
    return Feedback(request, sent, "" if sent else reason, wait)


def _read_message_21(fields: Sequence[str]) -> Message:
    text = fields[5] if len(fields) > 5 else ""
    if len(fields) > 3 and fields[3] == "2":
        text = text.removeprefix(MIXED_MARK)
    return Message(fields[2].lstrip("0"), _read_hex(fields[0], text))


def _read_message_3(fields: Sequence[str]) -> Message:
    return Message(fields[1].lstrip("0"), _read_hex(fields[0], fields[7] if len(fields) > 7 else ""))


def _read_hex(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise TargetError(f"{name}: its content is not hexadecimal: {text[:40]!r}") from None


def _read_beams_21(fields: Sequence[str]) -> Beams:
    return Beams(tuple(number(fields, at, "a beam") for at in range(3, len(fields))))


def _read_beams_3(fields: Sequence[str]) -> Beams:
    """Two lists of (number, signal, ...) triples, each after its length; the second may leave out its last field."""
    older = number(fields, 2, "the number of beams")
    at = 3 + 3 * older
    beams = number(fields, at, "the number of beams")
    stride = 3 if beams and len(fields) - at - 1 < 4 * beams - 1 else 4
    return Beams(tuple(number(fields, at + 2 + stride * each, "a beam") for each in range(beams)))


READERS: dict[str, Callable[[Sequence[str]], Report]] = {
    "BDICI": _read_card_21,
    "BDICP": _read_card_3,
    "BDFKI": _read_feedback,
    "BDTXR": _read_message_21,
    "BDTCI": _read_message_3,
    "BDBSI": _read_beams_21,
    "BDPWI": _read_beams_3,
}
