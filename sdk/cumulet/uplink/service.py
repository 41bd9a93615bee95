"""The uplink as a service on the control node: look, choose, do, publish; and the status over Beidou."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from cumulet.core.errors import CumuletError
from cumulet.core.files import write_text
from cumulet.uplink.beacon import Beacon
from cumulet.uplink.choose import CLASSES, MARKS, Choice, LinkState, make_choice
from cumulet.uplink.facts import Facts, Probe, Run, answers, probe_links, read_network, run_here
from cumulet.uplink.model import UplinkDocument
from cumulet.uplink.routes import make_commands
from cumulet.uplink.terminal import Terminal

STATE_FILE = Path("/run/cumulet/uplink.json")
ROUND_SECONDS = 5.0
STALE_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Ways:
    """How the service reaches the device. A test gives others; `modem` is the address of a D-Bus, None the system's."""

    run: Run = run_here
    probe: Probe = answers
    bus: str | None = None
    clock: Callable[[], float] = time.monotonic


class Uplink:
    """One site's uplink. `terminal` is the Beidou terminal, if there is one; `state` where the choice is published."""

    def __init__(
        self,
        document: UplinkDocument,
        *,
        ways: Ways | None = None,
        terminal: Terminal | None = None,
        beacon: Beacon | None = None,
        state: Path = STATE_FILE,
    ) -> None:
        self.document, self.terminal, self.beacon = document, terminal, beacon
        self.choice, self.states = Choice(), list[LinkState]()
        self._ways, self._state = ways or Ways(), state

    def step(self) -> Choice:
        """One round: look, choose, do, publish. Raises ToolError if the network cannot be read or changed."""
        facts = self._read_facts()
        now = self._ways.clock()
        before = {state.name: state for state in self.states}
        self.states = probe_links(self.document, facts, before, now, self._ways.probe)
        self.choice = make_choice(self.document, self.states, self.choice, now)
        self._apply(facts)
        if self.beacon is not None and self.terminal is not None:
            self.beacon.feed(self.terminal, self.choice, self.describe()["links"])
        self._publish()
        return self.choice

    def run(self, stop: threading.Event, tell: Callable[[str], None]) -> None:
        """Rounds until `stop` is set; what changes and what goes wrong is told in one line."""
        told = ""
        while not stop.is_set():
            try:
                self.step()
                line = ", ".join(f"{name}: {self.choice.links.get(name) or 'none'}" for name in CLASSES)
            except CumuletError as error:
                line = error.message
            if line != told:
                tell(line)
            told = line
            stop.wait(ROUND_SECONDS)

    def _read_facts(self) -> Facts:
        interfaces, routes = read_network(self._ways.run)
        facts = Facts(interfaces, routes)
        if any(link.kind in ("5g", "4g") for link in self.document.links):
            facts = self._add_modem(facts)
        if self.terminal is not None:
            facts = replace(facts, beidou=self.terminal.up, beidou_reason=self.terminal.tally.reason or "no signal")
        return facts

    def _add_modem(self, facts: Facts) -> Facts:
        from cumulet.modem import Status, open_modem  # noqa: PLC0415  (a site without a modem has no D-Bus)

        async def read() -> Status:
            async with open_modem(self._ways.bus) as modem:
                return await modem.read()

        try:
            return replace(facts, modem=asyncio.run(read()))
        except CumuletError as error:
            return replace(facts, modem_reason=error.message)

    def _apply(self, facts: Facts) -> None:
        """Do what is not as it should be."""
        rules = self._ways.run(["ip", "-4", "rule", "show"])
        for command in make_commands(self.choice, self.states, rules, facts.routes):
            self._ways.run(command)

    def _publish(self) -> None:
        write_text(self._state, json.dumps(self.describe(), indent=1) + "\n")

    def describe(self) -> dict[str, Any]:
        """The choice, its reasons, and every link, for programs and people."""
        used = {link for link in self.choice.links.values() if link}
        kinds = {link.name: link.kind for link in self.document.links}
        links = [
            {**asdict(state), "kind": kinds[state.name], "used": state.name in used, "since": round(state.since, 1)}
            for state in self.states
        ]
        return {
            "version": 1,
            "written": time.time(),
            "classes": {name: self.choice.links.get(name) for name in CLASSES},
            "marks": dict(MARKS),
            "reasons": {name: dict(self.choice.reasons.get(name, {})) for name in CLASSES},
            "links": links,
        }


def is_open(topic: str, state: Path = STATE_FILE) -> bool:
    """Whether a class of traffic has an IP link now, by the published choice. Without one, or an old one: yes.

    A device without the service is one whose only way is the default route.
    """
    try:
        found = json.loads(state.read_text())
        if time.time() - float(found["written"]) > STALE_SECONDS:
            return True
        link = found["classes"].get(topic, found["classes"].get("result"))
        kinds = {each["name"]: each["kind"] for each in found["links"]}
    except (OSError, ValueError, KeyError, TypeError):
        return True
    return link is not None and kinds.get(link) != "beidou"
