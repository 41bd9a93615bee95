"""What makes a choice true: one routing table and one rule for each class of traffic. Commands are values.

A class without a link gets a route that says so at once: its packets do not go out by another way that costs more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cumulet.uplink.choose import CLASSES, MARKS, Choice, LinkState
from cumulet.uplink.model import TrafficClass

Command = tuple[str, ...]
FIRST_PREFERENCE = 7101


def make_commands(
    choice: Choice, states: Sequence[LinkState], rules: str, routes: Sequence[Mapping[str, Any]]
) -> list[Command]:
    """The commands for a choice, none if all is as it should be.

    `rules` is what `ip -4 rule show` says, `routes` are the default routes of all tables: the kernel drops those of a
    link that goes down for a moment.
    """
    known = {state.name: state for state in states}
    there = {str(each.get("table", "")): each for each in routes}
    commands: list[Command] = []
    for number, name in enumerate(CLASSES):
        state = known.get(choice.links.get(name) or "")
        if not have_route(state, there.get(str(MARKS[name]))):
            commands.append(make_route(name, state))
        if f"fwmark {MARKS[name]:#x} lookup {MARKS[name]}" not in rules:
            rule = ("ip", "-4", "rule", "add", "fwmark", str(MARKS[name]), "lookup", str(MARKS[name]))
            commands.append((*rule, "pref", str(FIRST_PREFERENCE + number)))
    return commands


def have_route(state: LinkState | None, route: Mapping[str, Any] | None) -> bool:
    """Whether a table's default route is the one for a link, or for none."""
    if route is None:
        return False
    if state is None or not state.interface:
        return route.get("type") == "unreachable"
    return (route.get("dev"), route.get("gateway", "")) == (state.interface, state.gateway)


def make_route(name: TrafficClass, state: LinkState | None) -> Command:
    """The default route of a class's table."""
    replace = ("ip", "-4", "route", "replace")
    table = ("table", str(MARKS[name]))
    if state is None or not state.interface:
        return (*replace, "unreachable", "default", *table)
    way = ("via", state.gateway) if state.gateway else ()
    return (*replace, "default", *way, "dev", state.interface, *table)
