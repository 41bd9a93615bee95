"""What a site is like, for people and programs: every device, the vote, and whether one more may be lost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cumulet.site.facts import SiteFacts
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import UNKNOWN

State = Literal["ready", "not ready", "not in", "unreachable"]
Vote = Literal["voter", "learner", "none"]


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """One device. `clock` is how far its clock is ahead of this computer's, in seconds."""

    name: str
    address: str
    role: str
    state: State
    vote: Vote
    version: str
    clock: float
    text: str = ""
    """What is wrong, or under way."""


@dataclass(frozen=True, slots=True)
class SiteStatus:
    """All devices. `api`: an API server answers; `spare`: servers that may still be lost."""

    site: str
    distribution: str
    api: bool
    spare: int
    nodes: tuple[NodeStatus, ...]

    @property
    def healthy(self) -> bool:
        """Whether all is as it should be."""
        return self.api and all(node.state == "ready" for node in self.nodes)


def make_status(site: SiteDocument, facts: SiteFacts, unreachable: Mapping[str, str]) -> SiteStatus:
    """The status from facts. `unreachable`: node name -> why it could not be asked."""
    nodes = tuple(_make_node(node, facts, unreachable.get(node.name)) for node in site.nodes)
    return SiteStatus(site.site, site.distribution, facts.api, count_spare(site, nodes), nodes)


def count_spare(site: SiteDocument, nodes: tuple[NodeStatus, ...]) -> int:
    """How many servers may be lost until the vote has no majority."""
    voters = [node for node in nodes if node.vote == "voter"]
    alive = sum(node.state in ("ready", "not ready") for node in voters)
    return max(0, alive - (len(voters) // 2 + 1))


def _make_node(node: SiteNode, facts: SiteFacts, reason: str | None) -> NodeStatus:
    known, member = facts.nodes.get(node.name, UNKNOWN), facts.member(node.name)
    vote: Vote = "none"
    if member is not None:
        vote = "learner" if member.learner else "voter"
    elif known.voter is not None:
        vote = "voter" if known.voter else "learner"
    host = facts.hosts.get(node.name)
    state: State = "unreachable"
    if host is not None:
        state = "ready" if known.ready else "not ready" if known.name or host.made else "not in"
    text = reason or (f"under way: {host.installing}" if host is not None and host.installing else "")
    if known.unschedulable:
        text = text or "takes no new work"
    clock = round(host.clock, 1) if host is not None else 0.0
    return NodeStatus(node.name, node.address, node.role, state, vote, known.version, clock, text)
