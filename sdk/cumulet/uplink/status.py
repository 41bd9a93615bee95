"""A site's status in at most 70 bytes, and with one line per node in at most 1,750.

Bits, not text: every field has a width, a step and an end at which it stays. With the site's key the last eight
bytes are an HMAC, so that a stranger's terminal can say nothing in a site's name; sequence and time tell what is old.
"""

from __future__ import annotations

import hashlib
import hmac
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.core.errors import TargetError, UsageError
from cumulet.uplink.rdss import LIMITS, Service

VERSION = 1
EPOCH = 1577836800  # 2020-01-01 UTC
MAC_SIZE = 8
LONGEST_NOTE = 20
ALARMS = (
    "control-plane", "no-quorum", "node-lost", "disk-full", "spool-full", "hot", "battery", "clock",
    "model-bad", "task-failed", "update-failed", "uplink-down", "modem", "no-gnss", "intrusion", "other",
)  # fmt: skip
LINKS = ("ethernet", "5g", "4g", "beidou")
LINK_STATES = ("none", "down", "up", "used")


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One node: name, whether it is ready, CPU, GPU and memory in percent, degrees Celsius."""

    name: str
    ready: bool
    cpu: int = 0
    gpu: int = 0
    memory: int = 0
    temperature: int = 0


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """A site at one moment. Percentages are 0 to 100; `time` counts seconds since 1970; `age` is of the oldest result
    that waits, in minutes; `model` is the digest's first eight hexadecimal digits; `battery` None: there is none."""

    site: str
    sequence: int
    time: int
    position: tuple[float, float] | None = None
    nodes: int = 0
    ready: int = 0
    servers: int = 0
    servers_ready: int = 0
    cpu: int = 0
    gpu: int = 0
    memory: int = 0
    running: int = 0
    waiting: int = 0
    failed: int = 0
    spool_mib: float = 0.0
    spool_entries: int = 0
    age: float = 0.0
    links: tuple[str, ...] = ("none", "none", "none", "none")
    signal: int = 0
    model: str = "00000000"
    alarms: tuple[str, ...] = ()
    temperature: int = 0
    battery: int | None = None
    note: str = ""
    each_node: tuple[NodeStatus, ...] = ()


def name_code(name: str, bits: int) -> int:
    """The number that stands for a name in a message; who knows the names finds the name."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> (64 - bits)


def encode_status(status: SiteStatus, service: Service, key: bytes = b"") -> bytes:
    """The message. Of a status with more nodes than fit, those that are not ready come first. Raises UsageError."""
    bits = _Bits()
    bits.put(VERSION, 4)
    bits.put(1 if key else 0, 1)
    bits.put(name_code(status.site, 32), 32)
    bits.put(status.sequence & 0xFFFF, 16)
    bits.put((status.time - EPOCH) // 60, 26)
    _put_position(bits, status.position)
    for value, width in _counts(status):
        bits.put(value, width)
    bits.put(_index(LINK_STATES, status.links), 8)
    bits.put(_read_model(status.model), 32)
    bits.put(sum(1 << _find(ALARMS, alarm) for alarm in set(status.alarms)), 16)
    bits.put(status.temperature + 60, 8)
    bits.put(127 if status.battery is None else min(status.battery, 100), 7)
    note = status.note.encode()[:LONGEST_NOTE]
    bits.put(len(note), 5)
    for byte in note:
        bits.put(byte, 8)
    room = (LIMITS[service] - (MAC_SIZE if key else 0)) * 8 - bits.size - 8
    shown = sorted(status.each_node, key=lambda node: node.ready)[: min(max(0, room // NODE_BITS), 255)]
    if service == "global":
        shown = []
    bits.put(len(shown), 8)
    for node in shown:
        for value, width in (
            (name_code(node.name, 16), 16), (int(node.ready), 1), (node.cpu, 7), (node.gpu, 7), (node.memory, 7),
            (node.temperature + 60, 8),
        ):  # fmt: skip
            bits.put(value, width)
    body = bits.bytes()
    return body + _mac(body, key) if key else body


NODE_BITS = 46


def decode_status(data: bytes, sites: Sequence[str], keys: dict[str, bytes], nodes: Sequence[str] = ()) -> SiteStatus:
    """The status of a message. `sites` and `nodes` are the names that may be meant, `keys` a site's key.

    Raises TargetError for a message that is damaged, of an unknown site or version, or without the right HMAC.
    """
    bits = _Bits(data)
    version, signed = bits.take(4), bits.take(1)
    if version != VERSION:
        raise TargetError(f"a status of version {version}; known is {VERSION}")
    code = bits.take(32)
    site = next((name for name in sites if name_code(name, 32) == code), "")
    if not site:
        raise TargetError(f"a status of an unknown site, {code:08x}")
    _check_mac(data, site, bool(signed), keys.get(site, b""))
    sequence, time = bits.take(16), bits.take(26) * 60 + EPOCH
    values: dict[str, object] = {"site": site, "sequence": sequence, "time": time, "position": _take_position(bits)}
    for name, width in COUNTS:
        values[name] = bits.take(width)
    for name in LOGS:
        values[name] = _from_log(bits.take(8))
    values["spool_entries"] = round(_from_log(bits.take(8)))
    links = bits.take(8)
    values["links"] = tuple(LINK_STATES[links >> 2 * (3 - at) & 3] for at in range(4))
    values["model"] = f"{bits.take(32):08x}"
    alarms = bits.take(16)
    values["alarms"] = tuple(name for at, name in enumerate(ALARMS) if alarms >> at & 1)
    values["temperature"] = bits.take(8) - 60
    battery = bits.take(7)
    values["battery"] = None if battery == 127 else battery
    values["note"] = bytes(bits.take(8) for _ in range(bits.take(5))).decode(errors="replace")
    named = {name_code(name, 16): name for name in nodes}
    values["each_node"] = tuple(_take_node(bits, named) for _ in range(bits.take(8)))
    return SiteStatus(**values)  # type: ignore[arg-type]


COUNTS = (
    ("nodes", 10), ("ready", 10), ("servers", 3), ("servers_ready", 3), ("cpu", 7), ("gpu", 7), ("memory", 7),
    ("running", 10), ("waiting", 10), ("failed", 10), ("signal", 7),
)  # fmt: skip
LOGS = ("spool_mib", "age")


def is_newer(status: SiteStatus, than: SiteStatus | None) -> bool:
    """Whether a status tells something new: later, or in the same minute with a higher number (which wraps)."""
    if than is None or status.time != than.time:
        return than is None or status.time > than.time
    return 0 < (status.sequence - than.sequence) & 0xFFFF < 0x8000


def _counts(status: SiteStatus) -> list[tuple[int, int]]:
    found = [(int(getattr(status, name)), width) for name, width in COUNTS]
    found += [(_to_log(getattr(status, name)), 8) for name in LOGS]
    return [*found, (_to_log(status.spool_entries), 8)]


def _to_log(value: float) -> int:
    """Sixteen steps for each doubling: 4 % near, up to 62,000."""
    return min(255, round(16 * math.log2(1 + max(0.0, value))))


def _from_log(code: int) -> float:
    return round(2 ** (code / 16) - 1, 3)


def _put_position(bits: _Bits, position: tuple[float, float] | None) -> None:
    bits.put(0 if position is None else 1, 1)
    latitude, longitude = position or (0.0, 0.0)
    bits.put(round((latitude + 90) / 180 * ((1 << 25) - 1)), 25)
    bits.put(round((longitude + 180) / 360 * ((1 << 26) - 1)), 26)


def _take_position(bits: _Bits) -> tuple[float, float] | None:
    known, latitude, longitude = bits.take(1), bits.take(25), bits.take(26)
    found = (latitude / ((1 << 25) - 1) * 180 - 90, longitude / ((1 << 26) - 1) * 360 - 180)
    return (round(found[0], 5), round(found[1], 5)) if known else None


def _take_node(bits: _Bits, named: dict[int, str]) -> NodeStatus:
    code, ready, cpu, gpu, memory, temperature = (bits.take(width) for width in (16, 1, 7, 7, 7, 8))
    return NodeStatus(named.get(code, f"#{code:04x}"), bool(ready), cpu, gpu, memory, temperature - 60)


def _find(words: Sequence[str], word: str) -> int:
    if word not in words:
        raise UsageError(f"{word!r}: not one of {', '.join(words)}")
    return words.index(word)


def _index(words: Sequence[str], given: Sequence[str]) -> int:
    value = 0
    for word in given:
        value = value << 2 | _find(words, word)
    return value


def _read_model(text: str) -> int:
    try:
        return int(text[:8], 16)
    except ValueError:
        raise UsageError(f"{text!r}: not the beginning of a digest") from None


def _mac(body: bytes, key: bytes) -> bytes:
    return hmac.digest(key, body, "sha256")[:MAC_SIZE]


def _check_mac(data: bytes, site: str, signed: bool, key: bytes) -> None:
    if not key and not signed:
        return
    if not key:
        raise TargetError(f"{site}: its status is signed, and its key is not known here")
    if not signed or not hmac.compare_digest(_mac(data[:-MAC_SIZE], key), data[-MAC_SIZE:]):
        raise TargetError(f"{site}: a status that is not from there: its HMAC is wrong or missing")


class _Bits:
    """A row of bits to write to, or to read from."""

    def __init__(self, data: bytes = b"") -> None:
        self._value, self.size, self._left = int.from_bytes(data, "big"), len(data) * 8, len(data) * 8

    def put(self, value: int, width: int) -> None:
        """Write a number; one that does not fit stays at the end of the range."""
        self._value = self._value << width | min(max(0, value), (1 << width) - 1)
        self.size += width

    def take(self, width: int) -> int:
        """Read a number. Raises TargetError at the end."""
        if self._left < width:
            raise TargetError("a status that ends too early")
        self._left -= width
        return self._value >> self._left & ((1 << width) - 1)

    def bytes(self) -> bytes:
        """All that was written, filled up with zeros."""
        spare = -self.size % 8
        return (self._value << spare).to_bytes((self.size + spare) // 8, "big")
