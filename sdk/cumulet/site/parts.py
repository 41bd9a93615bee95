"""Small makers that the plans of both distributions share. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cumulet.core.files import sha256_text
from cumulet.kubernetes import Node, Setup, Text
from cumulet.site.actions import Action, Late, Put, Ready, Run, Step, Wait
from cumulet.site.facts import HostFacts, NodeFacts
from cumulet.site.model import SiteNode

DRAIN_SECONDS: Final = 180
SCRIPTS = Path(__file__).with_name("scripts")
UNKNOWN: Final = NodeFacts("", ready=False)
"""What the API server says of a node that it does not know."""
ROLE_LABELS: Final = {
    "control": "node-role.kubernetes.io/etcd",
    "master": "node-role.kubernetes.io/control-plane",
    "single": "node-role.kubernetes.io/control-plane",
}


def read_script(name: str) -> str:
    """A program for a device's shell."""
    return (SCRIPTS / name).read_text()


def make_node(node: SiteNode, facts: HostFacts) -> Node:
    """A device as the distribution sees it."""
    return Node(node.name, node.role, node.address, 1 if facts.cgroup == 1 else 2, facts.restricted)


def make_puts(setup: Setup) -> list[Action]:
    """Actions that write a setup's files."""
    return [Put(path, text.content, text.mode) for path, text in sorted(setup.files.items())]


def is_changed(path: str, text: Text, facts: HostFacts) -> bool:
    """Whether a device has another file there, or none."""
    return facts.files.get(path) != sha256_text(text.content)


def take(name: str) -> Late:
    """A content that an earlier step has put into the vault."""
    return Late(name.rpartition("/")[2], lambda vault: vault[name])


def start(*units: str) -> Run:
    """Start units without waiting for them."""
    return Run(("systemctl", "start", "--no-block", *(f"{unit}.service" for unit in units)))


def run_etcd(*words: str) -> Run:
    """One question to etcd, or one order, on a device with a member."""
    return Run(("sh", "-s", "--", *words), read_script("etcd.sh"))


def wait_etcd(what: str, *words: str, seconds: float = 180) -> Wait:
    """Ask etcd until the answer is yes."""
    return Wait(what, ("sh", "-s", "--", *words), seconds, read_script("etcd.sh"))


def wait_nodes(nodes: list[SiteNode], kubectl: tuple[str, ...], seconds: float = 600) -> Ready:
    """Wait until nodes are Ready."""
    return Ready(tuple((node.name, node.address) for node in nodes), kubectl, seconds)


def wait_api(kubectl: tuple[str, ...]) -> Wait:
    """Wait until the API server that these words of kubectl lead to is ready."""
    return Wait("its API server answers", (*kubectl, "get", "--raw=/readyz"), 300)


def make_drain(node: SiteNode, master: SiteNode, kubectl: tuple[str, ...]) -> Step:
    """Move what runs on a node elsewhere; what cannot be moved in time is ended."""
    options = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", f"--timeout={DRAIN_SECONDS}s")
    run = Run((*kubectl, "drain", node.name, *options), seconds=DRAIN_SECONDS + 30)
    return Step("leave.drain", master.name, f"move what runs on {node.name} elsewhere", "it leaves", (run,))
