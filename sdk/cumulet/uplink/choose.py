"""The choice: which link carries which class of traffic now, and why not another. Pure.

Of the links that are up, may carry the class and are not too dear for it, the cheapest is taken; of equal ones the
first. What stops working is left at once; what is better is taken when it has been up for a while, so that a link
that comes and goes does not take everything along.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import get_args

from cumulet.uplink.model import Link, TrafficClass, UplinkDocument

CLASSES: tuple[TrafficClass, ...] = get_args(TrafficClass)
# The firewall mark of a socket is also the number of its class's routing table.
MARKS: Mapping[TrafficClass, int] = {name: 7101 + number for number, name in enumerate(CLASSES)}


@dataclass(frozen=True, slots=True)
class LinkState:
    """A link at one moment. `since`: when it came up, on a monotonic clock. `why`: the reason that it is not up."""

    name: str
    up: bool
    since: float = 0.0
    why: str = ""
    interface: str = ""
    gateway: str = ""
    roaming: bool = False
    signal: int = 0


@dataclass(frozen=True, slots=True)
class Choice:
    """The link of each class, by name, or None; and for each class why each link that is not used is not."""

    links: Mapping[TrafficClass, str | None] = field(default_factory=dict)
    reasons: Mapping[TrafficClass, Mapping[str, str]] = field(default_factory=dict)


def make_choice(document: UplinkDocument, states: Sequence[LinkState], before: Choice, now: float) -> Choice:
    """The choice for these states. `before` is the last one, `now` the time on the clock of `LinkState.since`."""
    known = {state.name: state for state in states}
    links: dict[TrafficClass, str | None] = {}
    reasons: dict[TrafficClass, dict[str, str]] = {}
    for name in CLASSES:
        refused = {link.name: _find_reason(document, link, known.get(link.name), name) for link in document.links}
        fit = [link for link in document.links if not refused[link.name]]
        fit.sort(key=lambda link: link.cost)
        links[name] = _take(fit, known, before.links.get(name), now - document.settle)
        reasons[name] = {
            link: reason or _describe_unused(document, known[link], now)
            for link, reason in refused.items()
            if link != links[name]
        }
    return Choice(links, reasons)


def _find_reason(document: UplinkDocument, link: Link, state: LinkState | None, name: TrafficClass) -> str:
    """Why a link cannot carry a class; empty if it can."""
    if state is None or not state.up:
        return (state.why if state is not None else "") or "is down"
    if name not in link.carries:
        return f"may not carry {name}"
    if state.roaming and not link.roaming:
        return "is roaming, which is not allowed"
    rule = document.classes.get(name)
    if rule is not None and rule.most_cost is not None and link.cost > rule.most_cost:
        return f"costs {link.cost:g}, {name} is worth {rule.most_cost:g}"
    return ""


def _take(fit: Sequence[Link], known: Mapping[str, LinkState], before: str | None, settled: float) -> str | None:
    names = [link.name for link in fit]
    if before not in names:
        return names[0] if names else None
    better = [name for name in names[: names.index(before)] if known[name].since <= settled]
    return better[0] if better else before


def _describe_unused(document: UplinkDocument, state: LinkState, now: float) -> str:
    if now - state.since < document.settle:
        return f"is up for {now - state.since:.0f} s, taken after {document.settle}"
    return "another is cheaper"
