"""What the modem does now: ModemManager's and NetworkManager's properties as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, TypeVar

from cumulet.modem.bands import name_band, name_modes

MODEM = "org.freedesktop.ModemManager1.Modem"
MODEM_3GPP = f"{MODEM}.Modem3gpp"
TECHNOLOGIES = {1 << 1: "gsm", 1 << 3: "gprs", 1 << 4: "edge", 1 << 5: "umts", 1 << 14: "lte", 1 << 15: "5gnr"}
Kind = TypeVar("Kind", bound=IntEnum)
Properties = Mapping[str, Any]
"""The properties of one interface, as plain values."""


class State(IntEnum):
    """What ModemManager calls the state of a modem."""

    FAILED = -1
    UNKNOWN = 0
    INITIALIZING = 1
    LOCKED = 2
    DISABLED = 3
    DISABLING = 4
    ENABLING = 5
    ENABLED = 6
    SEARCHING = 7
    REGISTERED = 8
    DISCONNECTING = 9
    CONNECTING = 10
    CONNECTED = 11


class Lock(IntEnum):
    """What the SIM asks for; only the usual ones have names."""

    UNKNOWN = 0
    NONE = 1
    SIM_PIN = 2
    SIM_PIN2 = 3
    SIM_PUK = 4


class Registration(IntEnum):
    """Whether a network has let the modem in."""

    IDLE = 0
    HOME = 1
    SEARCHING = 2
    DENIED = 3
    UNKNOWN = 4
    ROAMING = 5


@dataclass(frozen=True, slots=True)
class Status:
    """The modem at one moment.

    `signal` is 0 to 100. `address` is the one of its link, with the prefix length, empty without a connection.
    `interface` is the link that carries it. `bands` and `generations` are those in use, `able` the generations that
    the modem knows. `default` says whether the site reaches the world through it just now.
    """

    state: State
    lock: Lock
    registration: Registration
    operator: str
    signal: int
    technologies: tuple[str, ...]
    generations: tuple[str, ...]
    able: tuple[str, ...]
    bands: tuple[str, ...]
    interface: str = ""
    address: str = ""
    default: bool = False
    model: str = ""

    @property
    def connected(self) -> bool:
        """Whether packets can pass: a call stands, and the link has an address."""
        return self.state is State.CONNECTED and bool(self.address)


def make_status(interfaces: Mapping[str, Properties], link: Properties) -> Status:
    """A status from the modem's interfaces and from NetworkManager's link (`interface`, `address`, `default`)."""
    modem, network = interfaces.get(MODEM, {}), interfaces.get(MODEM_3GPP, {})
    signal = modem.get("SignalQuality", (0, False))
    technologies = int(modem.get("AccessTechnologies", 0))
    able = 0
    for allowed, _ in modem.get("SupportedModes", ()):
        able |= allowed
    return Status(
        state=_known(State, modem.get("State", 0), State.UNKNOWN),
        lock=_known(Lock, modem.get("UnlockRequired", 0), Lock.UNKNOWN),
        registration=_known(Registration, network.get("RegistrationState", 4), Registration.UNKNOWN),
        operator=str(network.get("OperatorName", "")),
        signal=int(signal[0]),
        technologies=tuple(name for bit, name in TECHNOLOGIES.items() if technologies & bit),
        generations=name_modes(int(modem.get("CurrentModes", (0, 0))[0])),
        able=name_modes(able),
        bands=tuple(name_band(number) for number in modem.get("CurrentBands", ())),
        interface=str(link.get("interface", "")),
        address=str(link.get("address", "")),
        default=bool(link.get("default", False)),
        model=f"{modem.get('Manufacturer', '')} {modem.get('Model', '')}".strip(),
    )


def _known(kind: type[Kind], value: int, other: Kind) -> Kind:
    try:
        return kind(value)
    except ValueError:
        return other
