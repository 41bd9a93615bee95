"""A satellite receiver: sentences of NMEA 0183 once a second, made from a sky or from a recording. Pure.

A `Sky` says which satellites there are. A recording is replayed with its times moved to now, so that a clock can be
set from it; its checksums are made anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

# System -> (talker, number of the system in GSA).
SYSTEMS = {"gps": ("GP", 1), "glonass": ("GL", 2), "galileo": ("GA", 3), "beidou": ("GB", 4), "qzss": ("GQ", 5)}
# Sentences with a time -> the field it stands in; of some, the field of the date.
TIMES = {"GGA": 1, "GLL": 5, "GNS": 1, "RMC": 1, "ZDA": 1}
PER_SENTENCE = 4


@dataclass(frozen=True, slots=True)
class Satellite:
    """One satellite: its number within its system, degrees above the horizon and from north, dB-Hz."""

    number: int
    elevation: int
    azimuth: int
    signal: int


@dataclass(frozen=True, slots=True)
class Sky:
    """System -> the satellites in view, and where the receiver stands, in degrees."""

    satellites: dict[str, tuple[Satellite, ...]]
    latitude: float = 30.5
    longitude: float = 114.25

    def only(self, systems: Iterable[str]) -> Sky:
        """The sky of a receiver that hears just these systems."""
        wanted = set(systems)
        return replace(self, satellites={name: each for name, each in self.satellites.items() if name in wanted})


def make_satellites(*numbers: int) -> tuple[Satellite, ...]:
    """Satellites spread over the sky."""
    return tuple(Satellite(n, 20 + 9 * at % 65, (37 * n) % 360, 32 + (5 * n) % 14) for at, n in enumerate(numbers))


SKY = Sky(
    {
        "gps": make_satellites(2, 5, 12, 15, 24, 29),
        "glonass": make_satellites(66, 67, 75, 81),
        "galileo": make_satellites(3, 8, 13, 26),
        "beidou": make_satellites(3, 8, 13, 21, 27, 36, 45),
        "qzss": make_satellites(2),
    }
)


def make_sentence(body: str) -> bytes:
    """The sentence with its `$`, checksum and end of line."""
    checksum = 0
    for byte in body.encode("ascii"):
        checksum ^= byte
    return f"${body}*{checksum:02X}\r\n".encode("ascii")


def make_epoch(now: datetime, sky: Sky, talkers: dict[str, str] | None = None) -> bytes:
    """Everything that a receiver says for one second. `talkers` replaces talkers, such as GB by BD for Beidou."""
    time = f"{now:%H%M%S}.{now.microsecond // 10000:02d}"
    place = f"{_degrees(sky.latitude, 2)},{'N' if sky.latitude >= 0 else 'S'}"
    place += f",{_degrees(sky.longitude, 3)},{'E' if sky.longitude >= 0 else 'W'}"
    count = sum(map(len, sky.satellites.values()))
    fixed = count >= 4
    bodies = [
        f"GNRMC,{time},{'A' if fixed else 'V'},{place},0.0,0.0,{now:%d%m%y},,,{'A' if fixed else 'N'}",
        f"GNGGA,{time},{place},{int(fixed)},{min(count, 12):02d},0.9,25.0,M,0.0,M,,",
    ]
    # All of one kind together, as receivers do: gpsd takes a view that is interrupted for a new one.
    bodies += [_make_gsa(satellites, SYSTEMS[name][1], fixed) for name, satellites in sky.satellites.items()]
    for name, satellites in sky.satellites.items():
        bodies += _make_gsv((talkers or {}).get(name, SYSTEMS[name][0]), satellites)
    bodies.append(f"GNZDA,{time},{now:%d,%m,%Y},00,00")
    return b"".join(map(make_sentence, bodies))


def _make_gsa(satellites: Sequence[Satellite], system: int, fixed: bool) -> str:
    used = [f"{each.number:02d}" for each in satellites[:12]] if fixed else []
    fields = ",".join([*used, *[""] * (12 - len(used))])
    return f"GNGSA,A,{3 if fixed else 1},{fields},1.5,0.9,1.2,{system}"


def _make_gsv(talker: str, satellites: Sequence[Satellite]) -> list[str]:
    parts = [satellites[at : at + PER_SENTENCE] for at in range(0, len(satellites), PER_SENTENCE)]
    return [
        f"{talker}GSV,{len(parts)},{number},{len(satellites):02d},"
        + ",".join(f"{each.number:02d},{each.elevation:02d},{each.azimuth:03d},{each.signal:02d}" for each in part)
        for number, part in enumerate(parts, 1)
    ]


def _degrees(value: float, digits: int) -> str:
    whole = int(abs(value))
    return f"{whole:0{digits}d}{(abs(value) - whole) * 60:07.4f}"


def have_checksum(sentence: str) -> bool:
    """Whether a line is a sentence whose checksum is right."""
    match = re.fullmatch(r"\$([^*]+)\*[0-9A-F]{2}", sentence.strip())
    return match is not None and make_sentence(match[1]) == f"{sentence.strip()}\r\n".encode("ascii")


@dataclass(frozen=True, slots=True)
class Recording:
    """Seconds of a recorded receiver: the bodies of each one's sentences, without `$` and checksum."""

    seconds: tuple[tuple[str, ...], ...]

    def at(self, number: int, now: datetime) -> bytes:
        """The sentences of one second, told as if it was now; after the last comes the first again."""
        return b"".join(make_sentence(_move(body, now)) for body in self.seconds[number % len(self.seconds)])


def read_recording(text: str) -> Recording:
    """A recording from lines of sentences. Damaged ones are left out. Raises ValueError if no second is whole."""
    seconds: list[list[str]] = []
    last = None
    for line in text.splitlines():
        if not have_checksum(line):
            continue
        body = line.strip()[1:-3]
        time = _read_time(body)
        if time is not None and time != last:
            seconds.append([])
            last = time
        if seconds:
            seconds[-1].append(body)
    if not seconds:
        raise ValueError("no sentence with a time and a right checksum")
    return Recording(tuple(map(tuple, seconds)))


def _read_time(body: str) -> str | None:
    fields = body.split(",")
    place = TIMES.get(fields[0][-3:])
    return fields[place] if place is not None and len(fields) > place else None


def _move(body: str, now: datetime) -> str:
    """The sentence with time and date of `now`."""
    fields = body.split(",")
    kind = fields[0][-3:]
    if kind in TIMES and len(fields) > TIMES[kind]:
        fields[TIMES[kind]] = f"{now:%H%M%S}.{now.microsecond // 10000:02d}"
    if kind == "RMC" and len(fields) > 9:
        fields[9] = f"{now:%d%m%y}"
    if kind == "ZDA" and len(fields) > 4:
        fields[2:5] = f"{now:%d,%m,%Y}".split(",")
    return ",".join(fields)


class Receiver:
    """A receiver that speaks once a second. All of it may be changed while it runs.

    `shift` moves the time that it tells; with a `recording`, `sky` and `talkers` have no meaning.
    """

    def __init__(self, sky: Sky = SKY, recording: Recording | None = None) -> None:
        self.sky = sky
        self.recording = recording
        self.shift = timedelta()
        self.talkers: dict[str, str] = {}
        self._second = 0

    def feed(self, data: bytes) -> bytes:
        """It takes no commands."""
        return b""

    def tick(self, now: float) -> bytes:
        """The sentences of this second; `now` is seconds since 1970."""
        time = datetime.fromtimestamp(now, UTC) + self.shift
        self._second += 1
        if self.recording is not None:
            return self.recording.at(self._second - 1, time)
        return make_epoch(time, self.sky, self.talkers)
