"""What the devices of a site are like now: read over ssh, kept as values. Nothing is changed here."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumulet.core.errors import TargetError
from cumulet.site.ssh import Host

if TYPE_CHECKING:
    from cumulet.site.packages import PackageFacts

SCRIPT = Path(__file__).with_name("scripts") / "facts.sh"
ARCHITECTURES = {"aarch64": "arm64", "x86_64": "amd64"}
SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class HostFacts:
    """One device. Sizes in bytes; `clock` is how far its clock is ahead of this computer's, in seconds."""

    name: str
    architecture: str = ""
    kernel: str = ""
    hostname: str = ""
    cpus: int = 0
    memory: int = 0
    disk: int = 0
    clock: float = 0.0
    cgroup: int = 2
    restricted: bool = False
    boot: str = ""
    machine: str = ""
    role: str = ""
    links: Mapping[str, int] = field(default_factory=dict)
    """Address -> MTU."""
    programs: Mapping[str, str] = field(default_factory=dict)
    active: frozenset[str] = frozenset()
    made: bool = False
    """Whether the device is part of a cluster."""
    etcd_data: bool = False
    installing: str = ""
    """What the device's own journal says is under way."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Path -> SHA-256, of the files that were asked for and are there."""


@dataclass(frozen=True, slots=True)
class Member:
    """A member of etcd. One that has not started yet has no name."""

    id: str
    name: str
    address: str
    learner: bool


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node as the API server knows it."""

    name: str
    ready: bool
    address: str = ""
    version: str = ""
    labels: frozenset[str] = frozenset()
    taints: frozenset[str] = frozenset()
    unschedulable: bool = False
    voter: bool | None = None
    """What k3s says of its etcd member; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class SiteFacts:
    """All devices that answered, and the cluster as its own programs see it."""

    hosts: Mapping[str, HostFacts]
    members: tuple[Member, ...] = ()
    nodes: Mapping[str, NodeFacts] = field(default_factory=dict)
    api: bool = False
    addons: str = ""
    """Digest of what was last put into the cluster."""
    tokens: int = 0
    """How many tokens would let a device in."""
    packages: PackageFacts | None = None
    """What is to be handed out, and who has it; None for a site without packages."""

    def member(self, name: str) -> Member | None:
        """The etcd member of a node."""
        return next((each for each in self.members if each.name == name), None)


async def read_host(host: Host, paths: Sequence[str]) -> HostFacts:
    """Facts about one device, with the digests of the files in `paths`. Raises TargetError."""
    begin = time.time()
    result = await host.run(["sh", "-s", "--", *paths], input=SCRIPT.read_text(), seconds=SECONDS)
    facts = parse_host(host.name, result.out, (begin + time.time()) / 2)
    if facts is None:
        raise TargetError(f"{host.name}: no device with a Cumulet image answers there", hint="cumulet build")
    return facts


def parse_host(name: str, text: str, now: float) -> HostFacts | None:
    """Facts from what the script printed; None if that is not whole. `now` is this computer's time at the middle."""
    lines = [line.split(" ") for line in text.splitlines()]
    if not lines or lines[-1] != ["end"]:
        return None
    single = {words[0]: " ".join(words[1:]) for words in lines}
    return HostFacts(
        name=name,
        architecture=ARCHITECTURES.get(single["architecture"], single["architecture"]),
        kernel=single["kernel"],
        hostname=single["hostname"],
        cpus=int(single["cpus"]),
        memory=int(single["memory"]) * 1024,
        disk=int(single["disk"]) * 1024,
        clock=float(single["time"]) - now,
        cgroup=int(single["cgroup"]),
        restricted=single["restricted"] == "1",
        boot=single["boot"],
        machine=single.get("machine", ""),
        role=single.get("role", ""),
        links={words[1]: int(words[2]) for words in lines if words[0] == "link"},
        programs={words[1]: words[2] for words in lines if words[0] == "program" and len(words) > 2},
        active=frozenset(words[1] for words in lines if words[0] == "active"),
        made="made" in single,
        etcd_data="etcd-data" in single,
        installing=single.get("installing", ""),
        files={words[2]: words[1] for words in lines if words[0] == "file"},
    )


async def read_hosts(hosts: Sequence[Host], paths: Mapping[str, Sequence[str]]) -> dict[str, HostFacts]:
    """Facts about several devices, side by side. `paths`: node name -> files whose digests are wanted."""
    found = await asyncio.gather(*(read_host(host, paths.get(host.name, ())) for host in hosts))
    return {facts.name: facts for facts in found}


def find_clock_errors(facts: Mapping[str, HostFacts], most: float) -> dict[str, float]:
    """Node name -> seconds that its clock is off, where that is more than `most`; an empty name is this computer.

    Off means: from the middle of all devices; one wrong clock must not make all others look wrong.
    """
    clocks = [each.clock for each in facts.values()]
    # Two clocks cannot outvote each other: then this computer's is taken for right.
    halves = (statistics.median_low(clocks), statistics.median_high(clocks)) if len(clocks) > 2 else (0.0,)
    middle = min(halves, key=abs)
    off = {name: each.clock - middle for name, each in facts.items()}
    return {name: seconds for name, seconds in {"": -middle, **off}.items() if abs(seconds) > most}


def parse_members(text: str) -> tuple[Member, ...]:
    """Members from `etcdctl member list -w json`."""
    members = []
    for each in json.loads(text)["members"]:
        peers = each.get("peerURLs", [])
        address = peers[0].split("//")[-1].rsplit(":", 1)[0] if peers else ""
        members.append(Member(f"{each['ID']:x}", each.get("name", ""), address, bool(each.get("isLearner"))))
    return tuple(members)


def parse_nodes(text: str) -> dict[str, NodeFacts]:
    """Nodes from `kubectl get nodes -o json`."""
    found = {}
    for item in json.loads(text)["items"]:
        node = _parse_node(item)
        found[node.name] = node
    return found


def _parse_node(item: dict[str, Any]) -> NodeFacts:
    status = item.get("status", {})
    conditions = {each["type"]: each["status"] for each in status.get("conditions", [])}
    addresses = [each["address"] for each in status.get("addresses", []) if each["type"] == "InternalIP"]
    return NodeFacts(
        name=item["metadata"]["name"],
        ready=conditions.get("Ready") == "True",
        address=addresses[0] if addresses else "",
        version=status.get("nodeInfo", {}).get("kubeletVersion", ""),
        labels=frozenset(item["metadata"].get("labels", {})),
        taints=frozenset(each["key"] for each in item.get("spec", {}).get("taints", ())),
        unschedulable=bool(item.get("spec", {}).get("unschedulable")),
        voter=conditions["EtcdIsVoter"] == "True" if "EtcdIsVoter" in conditions else None,
    )
