"""What makes a choice true: one routing table and one rule for each class of traffic. Commands are values.

A class without a link gets a route that says so at once: its packets do not go out by another way that costs more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cumulet.uplink.choose import CLASSES, MARKS, Choice, LinkState
from cumulet.uplink.model import TrafficClass

Command = tuple[str, ...]
FIRST_PREFERENCE = 7101


def make_commands(choice: Choice, states: Sequence[LinkState], rules: str, done: Choice | None) -> list[Command]:
    """The commands for a choice. `rules` is what `ip -4 rule show` says, `done` the choice that is in force already.

    Nothing is done again for a class whose link has not changed.
    """
    known = {state.name: state for state in states}
    commands: list[Command] = []
    for number, name in enumerate(CLASSES):
        if done is None or done.links.get(name) != choice.links.get(name):
            commands.append(make_route(name, choice.links, known))
        if f"fwmark {MARKS[name]:#x} lookup {MARKS[name]}" not in rules:
            rule = ("ip", "-4", "rule", "add", "fwmark", str(MARKS[name]), "lookup", str(MARKS[name]))
            commands.append((*rule, "pref", str(FIRST_PREFERENCE + number)))
    return commands


def make_route(name: TrafficClass, links: Mapping[TrafficClass, str | None], known: Mapping[str, LinkState]) -> Command:
    """The default route of a class's table."""
    state = known.get(links.get(name) or "")
    replace = ("ip", "-4", "route", "replace")
    table = ("table", str(MARKS[name]))
    if state is None or not state.interface:
        return (*replace, "unreachable", "default", *table)
    way = ("via", state.gateway) if state.gateway else ()
    return (*replace, "default", *way, "dev", state.interface, *table)
