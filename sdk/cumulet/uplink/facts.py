"""What the links are like now: interfaces and routes from iproute2, the modem from ModemManager. Changes nothing."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.uplink.choose import MARKS, LinkState
from cumulet.uplink.model import Link, UplinkDocument

if TYPE_CHECKING:
    from cumulet.modem import Status

Run = Callable[[Sequence[str]], str]
Probe = Callable[[str, str], bool]
PROBE_SECONDS = 3.0
BIND_TO_DEVICE = 25  # SO_BINDTODEVICE


@dataclass(frozen=True, slots=True)
class Facts:
    """What was read. `modem` is None, with the reason, where there is none; `beidou` whether the terminal is up."""

    interfaces: Sequence[Mapping[str, Any]] = ()
    routes: Sequence[Mapping[str, Any]] = ()
    modem: Status | None = None
    modem_reason: str = "there is no modem"
    beidou: bool = False
    beidou_reason: str = "there is no terminal"
    answering: frozenset[str] = field(default_factory=frozenset)


def run_here(argv: Sequence[str]) -> str:
    """Run a program of this device and give back what it says. Raises ToolError."""
    return proc.run(argv, timeout=10).out


def read_network(run: Run = run_here) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """iproute2's interfaces with addresses, and every default route. Raises ToolError."""
    return _read(run, ["ip", "-j", "addr"]), _read(run, ["ip", "-4", "-j", "route", "show", "table", "all", "default"])


def _read(run: Run, argv: Sequence[str]) -> list[dict[str, Any]]:
    text = run(argv).strip()
    try:
        found = json.loads(text or "[]")
    except ValueError as error:
        raise ToolError(f"{proc.quote(argv)}: not JSON: {text[:60]!r}") from error
    return [each for each in found if each]


def answers(interface: str, where: str) -> bool:
    """Whether a host and port answer over an interface, within a few seconds."""
    host, _, port = where.rpartition(":")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as link:
            link.settimeout(PROBE_SECONDS)
            link.setsockopt(socket.SOL_SOCKET, BIND_TO_DEVICE, interface.encode())
            link.connect((host, int(port)))
    except OSError:
        return False
    return True


def probe_links(
    document: UplinkDocument,
    facts: Facts,
    before: Mapping[str, LinkState],
    now: float,
    probe: Probe = answers,
) -> list[LinkState]:
    """The state of every link. A link that was up before keeps the time at which it came up."""
    states = []
    for link in document.links:
        state = make_state(link, facts)
        if state.up and link.probe and not probe(state.interface, link.probe):
            state = replace(state, up=False, why=f"{link.probe} does not answer")
        old = before.get(link.name)
        since = old.since if state.up and old is not None and old.up else now
        states.append(replace(state, since=since))
    return states


def make_state(link: Link, facts: Facts) -> LinkState:
    """One link's state from the facts. Pure."""
    if link.kind == "beidou":
        return LinkState(link.name, facts.beidou, why="" if facts.beidou else facts.beidou_reason)
    if link.kind == "ethernet":
        return _make_wired(link, facts)
    return _make_mobile(link, facts)


def _make_wired(link: Link, facts: Facts) -> LinkState:
    found = next((each for each in facts.interfaces if each.get("ifname") == link.interface), None)
    if found is None:
        return LinkState(link.name, False, why=f"there is no interface {link.interface}")
    addresses = [each for each in found.get("addr_info", ()) if each.get("family") == "inet"]
    gateway = _find_gateway(link.interface, facts.routes)
    why = ""
    if "LOWER_UP" not in found.get("flags", ()):
        why = "no cable"
    elif not addresses:
        why = "no address"
    elif not gateway:
        why = "no gateway"
    return LinkState(link.name, not why, why=why, interface=link.interface, gateway=gateway)


def _make_mobile(link: Link, facts: Facts) -> LinkState:
    modem = facts.modem
    if modem is None:
        return LinkState(link.name, False, why=facts.modem_reason)
    roaming = modem.registration.name == "ROAMING"
    network = "5g" if "5gnr" in modem.technologies else "4g"
    why = ""
    if not modem.connected:
        why = f"the modem is {modem.state.name.lower()}"
    elif network != link.kind:
        why = f"the network is {network}"
    gateway = _find_gateway(modem.interface, facts.routes)
    return LinkState(link.name, not why, 0.0, why, modem.interface, gateway, roaming, modem.signal)


def _find_gateway(interface: str, routes: Sequence[Mapping[str, Any]]) -> str:
    """The gateway that the system has for an interface; what stands in our own tables is no news."""
    ours = {str(mark) for mark in MARKS.values()}
    for each in routes:
        if each.get("dev") == interface and "gateway" in each and str(each.get("table", "")) not in ours:
            return str(each["gateway"])
    return ""
