"""Names, addresses and link commands of a lab. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError

FIRST_HOST = 11
MOST_NODES = 50
NAME = re.compile(r"[a-z][a-z0-9]{0,4}")
"""Names of network links have fifteen letters; a lab's name, a node's and a prefix must fit in."""
RATE = re.compile(r"\d+(\.\d+)?[kmg]?bit")
DELAY = re.compile(r"\d+(\.\d+)?ms")
LOSS = re.compile(r"\d+(\.\d+)?%")


@dataclass(frozen=True, slots=True)
class LabNode:
    """One node: its name, its place in the lab (from 1) and its address with prefix length."""

    name: str
    index: int
    address: str

    @property
    def host(self) -> str:
        """The address alone."""
        return self.address.split("/")[0]

    @property
    def hardware(self) -> str:
        """The link's own address: the same after every start, or neighbours would look for the old one for a while."""
        return "02:63:" + ":".join(f"{int(part):02x}" for part in self.host.split("."))


@dataclass(frozen=True, slots=True)
class Wiring:
    """What a lab is called and which addresses it has. `subnet` is a /24; its first address is this computer's."""

    name: str
    subnet: str

    @property
    def bridge(self) -> str:
        """The bridge that all nodes are plugged into."""
        return f"cl-{self.name}"

    @property
    def gateway(self) -> str:
        """The address of this computer on the bridge."""
        return str(ipaddress.ip_network(self.subnet)[1])

    @property
    def prefix(self) -> int:
        """The prefix length of the subnet."""
        return ipaddress.ip_network(self.subnet).prefixlen

    def node(self, index: int) -> LabNode:
        """The node at a place in the lab."""
        address = ipaddress.ip_network(self.subnet)[FIRST_HOST - 1 + index]
        return LabNode(f"n{index}", index, f"{address}/{self.prefix}")

    def link(self, node: LabNode) -> str:
        """This computer's end of the node's cable."""
        return f"cl-{self.name}-{node.index}"

    def namespace(self, node: LabNode) -> str:
        """The node's network namespace."""
        return f"cl-{self.name}-{node.name}"


def make_wiring(name: str, subnet: str) -> Wiring:
    """Check a lab's name and subnet. Raises UsageError."""
    if not NAME.fullmatch(name):
        raise UsageError(f"{name!r} cannot be a lab's name", hint="one to five lower-case letters and digits")
    try:
        network = ipaddress.ip_network(subnet)
    except ValueError:
        network = None
    if network is None or network.version != 4 or network.prefixlen != 24:
        raise UsageError(f"{subnet!r}: not a /24 network", hint="write it like 10.51.0.0/24")
    return Wiring(name, subnet)


def make_bridge_commands(wiring: Wiring) -> list[list[str]]:
    """The commands that make the bridge."""
    return [
        ["ip", "link", "add", wiring.bridge, "type", "bridge", "forward_delay", "0"],
        ["ip", "address", "add", f"{wiring.gateway}/{wiring.prefix}", "dev", wiring.bridge],
        ["ip", "link", "set", wiring.bridge, "up"],
    ]


def make_cable_commands(wiring: Wiring, node: LabNode) -> list[list[str]]:
    """The commands that make a node's network namespace and plug it in."""
    space, link = wiring.namespace(node), wiring.link(node)
    return [
        ["ip", "netns", "add", space],
        ["ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "address", node.hardware, "netns", space],
        ["ip", "link", "set", link, "master", wiring.bridge, "up"],
        ["ip", "-n", space, "link", "set", "lo", "up"],
        ["ip", "-n", space, "address", "add", node.address, "dev", "eth0"],
        ["ip", "-n", space, "link", "set", "eth0", "up"],
        ["ip", "-n", space, "route", "add", "default", "via", wiring.gateway],
    ]


@dataclass(frozen=True, slots=True)
class Slowness:
    """How bad a link is: `delay` as 80ms, `loss` as 2%, `rate` as 5mbit; empty where it is good."""

    delay: str = ""
    loss: str = ""
    rate: str = ""

    @property
    def needs_netem(self) -> bool:
        """Whether the kernel's network emulator is needed; a rate alone is not its business."""
        return bool(self.delay or self.loss)


def check_slowness(slowness: Slowness) -> None:
    """Raise UsageError for a value that tc would not take."""
    checks = (("--delay", slowness.delay, DELAY, "80ms"), ("--loss", slowness.loss, LOSS, "2%"))
    for option, value, pattern, example in (*checks, ("--rate", slowness.rate, RATE, "5mbit")):
        if value and not pattern.fullmatch(value):
            raise UsageError(f"{option}: {value!r} is not understood", hint=f"write it like {example}")


def make_slow_commands(wiring: Wiring, node: LabNode, slowness: Slowness) -> list[list[str]]:
    """The tc commands for both directions of a node's cable: its own end, and this computer's."""
    inside = ["ip", "netns", "exec", wiring.namespace(node), "tc"]
    commands = []
    for words, link in ((["tc"], wiring.link(node)), (inside, "eth0")):
        shape = [*words, "qdisc", "replace", "dev", link, "root"]
        if slowness.needs_netem:
            shape.append("netem")
            shape += ["delay", slowness.delay] if slowness.delay else []
            shape += ["loss", slowness.loss] if slowness.loss else []
            shape += ["rate", slowness.rate] if slowness.rate else []
        elif slowness.rate:
            shape += ["tbf", "rate", slowness.rate, "burst", "32kbit", "latency", "400ms"]
        else:
            shape = [*words, "qdisc", "del", "dev", link, "root"]
        commands.append(shape)
    return commands


def make_node_document(wiring: Wiring, node: LabNode, authorized_keys: list[str]) -> str:
    """The node.yaml that makes a container this node."""
    lines = [
        "version: 1", "role: none", f"hostname: {node.name}", "interface: eth0", f"address: {node.address}",
        f"gateway: {wiring.gateway}", "ssh_authorized_keys:", *(f"  - {key}" for key in authorized_keys),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def make_known_hosts(hosts: dict[str, str]) -> str:
    """known_hosts lines from address -> public key line."""
    return "".join(f"{address} {' '.join(key.split()[:2])}\n" for address, key in hosts.items())


def make_ssh_argv(key: Path, known_hosts: Path, address: str, command: list[str]) -> list[str]:
    """The ssh command line for a node; without a command it is a shell."""
    options = {"StrictHostKeyChecking": "yes", "UserKnownHostsFile": str(known_hosts), "IdentitiesOnly": "yes"}
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", "-F", "/dev/null", "-i", str(key), *words, f"root@{address}", *command]
