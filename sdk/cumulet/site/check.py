"""Whether devices can be what the site wants of them. Pure: facts in, problems out, nothing changed anywhere."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from cumulet.core.errors import TargetError
from cumulet.site.facts import HostFacts, SiteFacts, find_clock_errors
from cumulet.site.model import SiteDocument, SiteNode, parse_seconds, parse_size

PROGRAMS: Mapping[str, tuple[str, ...]] = {"kubeadm": ("kubeadm", "containerd"), "k3s": ("k3s",)}
MIB = 1 << 20


def find_problems(site: SiteDocument, facts: SiteFacts) -> list[TargetError]:
    """Everything that keeps the site from being brought up, by device."""
    problems = [each for node in site.nodes for each in _check_host(site, node, facts.hosts[node.name])]
    return [
        *problems,
        *_check_clocks(site, facts.hosts),
        *_check_links(site, facts.hosts),
        *_check_versions(facts.hosts),
    ]


def _check_host(site: SiteDocument, node: SiteNode, facts: HostFacts) -> list[TargetError]:
    found = []
    for name, have, want, hint in (
        ("memory", facts.memory, parse_size(site.minimum.memory), "take a bigger device, or lower minimum.memory"),
        ("free space in /var/lib", facts.disk, parse_size(site.minimum.disk), "free some, or lower minimum.disk"),
    ):
        # What is in already has used some of it, and leaving it out now would do no good.
        if have < want and not facts.made:
            found.append(TargetError(f"{node.name}: {name}: has {have // MIB} MiB, needs {want // MIB} MiB", hint=hint))
    lacking = [program for program in PROGRAMS[site.distribution] if program not in facts.programs]
    if lacking:
        hint = f"its image needs: kubernetes: {{distribution: {site.distribution}}}"
        found.append(TargetError(f"{node.name}: its image has no {' and no '.join(lacking)}", hint=hint))
    if facts.role not in ("", "none", node.role):
        hint = f"change its node.yaml, or the role of {node.name} in site.yaml"
        found.append(TargetError(f"{node.name}: was made for role {facts.role}, the site wants {node.role}", hint=hint))
    if node.address not in facts.links:
        addresses = ", ".join(facts.links) or "none"
        found.append(TargetError(f"{node.name}: has not the address {node.address} itself; it has: {addresses}"))
    return found


def _check_clocks(site: SiteDocument, hosts: Mapping[str, HostFacts]) -> list[TargetError]:
    off = find_clock_errors(hosts, parse_seconds(site.minimum.clock))
    return [
        TargetError(
            f"{name or 'this computer'}: its clock is {describe_time(seconds)} {'ahead' if seconds > 0 else 'behind'}",
            hint=f"on {name or 'this computer'}: timedatectl set-ntp true, or let it see the sky or a time server",
        )
        for name, seconds in off.items()
    ]


def describe_time(seconds: float) -> str:
    """`1 day`, `3.5 hours`, `90 seconds`."""
    size = abs(seconds)
    for unit, length in (("day", 86400), ("hour", 3600)):
        if size >= length * 0.95:
            count = round(size / length, 1)
            return f"{count:g} {unit}{'' if count == 1 else 's'}"
    return f"{size:.0f} seconds"


def _check_links(site: SiteDocument, hosts: Mapping[str, HostFacts]) -> list[TargetError]:
    """Packets that one device sends must fit through the others' links: pods' routes know nothing of smaller ones."""
    sizes = {node.name: hosts[node.name].links.get(node.address, 0) for node in site.nodes}
    usual = Counter(sizes.values()).most_common(1)[0][0]
    return [
        TargetError(
            f"{name}: packets on its link have at most {size} bytes (MTU), on the others {usual}",
            hint="give all links of the site the same MTU",
        )
        for name, size in sizes.items()
        if size and usual and size != usual
    ]


def _check_versions(hosts: Mapping[str, HostFacts]) -> list[TargetError]:
    """Devices that are to become a cluster have one version; one that comes later may have an older patch release.

    An upgrade brings such a one along; a newer one would speak to API servers that do not know its words.
    """
    versions = {name: facts.programs.get("kubeadm") or facts.programs.get("k3s", "") for name, facts in hosts.items()}
    members = [versions[name] for name, facts in hosts.items() if facts.made]
    usual = Counter(members or versions.values()).most_common(1)[0][0]
    return [
        TargetError(f"{name}: has Kubernetes {versions[name]}, the others {usual}", hint="give it the same image")
        for name, facts in hosts.items()
        if not facts.made and versions[name] and not _fits(versions[name], usual, exactly=not members)
    ]


def _fits(version: str, usual: str, *, exactly: bool) -> bool:
    if exactly or not usual:
        return version == usual or not usual
    have, want = _numbers(version), _numbers(usual)
    return have[:2] == want[:2] and have <= want


def _numbers(version: str) -> tuple[int, ...]:
    """`v1.36.2+k3s1` as 1, 36, 2, 1."""
    return tuple(int(number) for number in re.findall(r"\d+", version.replace("k3s", "")))
