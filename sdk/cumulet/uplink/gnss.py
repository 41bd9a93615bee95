"""Place and time from gpsd: one look at its JSON stream."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError

ADDRESS = ("127.0.0.1", 2947)
WATCH = b'?WATCH={"enable":true,"json":true}\n'
SYSTEMS = {0: "gps", 1: "sbas", 2: "galileo", 3: "beidou", 5: "qzss", 6: "glonass", 7: "navic"}
LARGEST = 1 << 20


@dataclass(frozen=True, slots=True)
class Fix:
    """What the receiver knows: `mode` 0 or 1 nothing, 2 a place, 3 a place and a height; degrees; metres.

    `time` is the receiver's, as ISO text; `used` counts the satellites of each system that take part.
    """

    mode: int = 0
    latitude: float = 0.0
    longitude: float = 0.0
    height: float = 0.0
    time: str = ""
    used: Mapping[str, int] = field(default_factory=dict)

    @property
    def position(self) -> tuple[float, float] | None:
        """Latitude and longitude in degrees, if there is a fix."""
        return (self.latitude, self.longitude) if self.mode >= 2 else None


def read_fix(deadline: Deadline, address: tuple[str, int] = ADDRESS) -> Fix:
    """The fix at the deadline, or as soon as place and satellites are known. Raises TargetError without gpsd."""
    place: dict[str, Any] = {}
    sky: dict[str, Any] = {}
    held = b""
    try:
        with socket.create_connection(address, timeout=max(0.1, deadline.left)) as link:
            link.sendall(WATCH)
            while not (place.get("mode", 0) >= 2 and sky):
                link.settimeout(max(0.01, deadline.left))
                try:
                    data = link.recv(65536)
                except TimeoutError:
                    break
                if not data or len(held) > LARGEST:
                    raise TargetError(f"gpsd at {address[0]}:{address[1]}: ended in the middle")
                *lines, held = (held + data).split(b"\n")
                for report in map(_read_report, lines):
                    place = report if report.get("class") == "TPV" else place
                    sky = report if report.get("class") == "SKY" and report.get("satellites") else sky
    except OSError as error:
        where = f"gpsd at {address[0]}:{address[1]}"
        raise TargetError(f"{where}: {error.strerror or error}", hint="systemctl status gpsd") from error
    return make_fix(place, sky)


def make_fix(place: Mapping[str, Any], sky: Mapping[str, Any]) -> Fix:
    """A fix from gpsd's TPV and SKY. Pure."""
    used: dict[str, int] = {}
    for satellite in sky.get("satellites", ()):
        if satellite.get("used"):
            system = SYSTEMS.get(satellite.get("gnssid", 0), "other")
            used[system] = used.get(system, 0) + 1
    numbers = {key: float(place.get(name, 0.0)) for key, name in _NUMBERS.items()}
    return Fix(int(place.get("mode", 0)), **numbers, time=str(place.get("time", "")), used=used)


_NUMBERS = {"latitude": "lat", "longitude": "lon", "height": "altHAE"}


def _read_report(line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
