"""The firewall of a node: one ruleset per role, made at build time; at boot the node loads that of its role.

Closed but for ssh, what the node's Kubernetes needs of its role, what a site needs, and what the recipe opens. On
the device, a file in /etc/cumulet/firewall.d opens more: it is part of the chain `input`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from cumulet_builder.recipe.model import Kubernetes, Recipe
from cumulet_builder.render import render
from cumulet_builder.tree import Tree

PACKAGES = ("nftables",)
MODULES = ("nf_tables", "nf_conntrack", "nft_ct")
FOLDER = "/usr/share/cumulet/firewall"
SCRIPT = "/usr/lib/cumulet/firewall"
UNIT, WATCH = "cumulet-firewall.service", "cumulet-firewall.path"
UNITS, ETC_UNITS = "/usr/lib/systemd/system", "/etc/systemd/system"
ROLES = ("none", "single", "control", "master", "worker")


@dataclass(frozen=True, slots=True)
class Port:
    """One port, or a range `first-last`, that a role answers on, and what is there."""

    range: str
    protocol: str
    what: str


SSH = Port("22", "tcp", "ssh")
# Asked for before a device has a role in its site; whoever asks must know the secret of that one run.
PACKAGES_PORT = Port("7480", "tcp", "packages for the devices of the site")
KUBELET = Port("10250", "tcp", "kubelet")
API = Port("6443", "tcp", "API server")
ETCD = Port("2379-2380", "tcp", "etcd")
K3S_EVERYWHERE = (Port("8472", "udp", "flannel"), Port("5001", "tcp", "images from node to node"))
BY_ROLE: dict[str, tuple[Port, ...]] = {
    "none": (),
    "single": (API, KUBELET),
    "control": (ETCD, KUBELET),
    "master": (API, ETCD, KUBELET),
    "worker": (KUBELET,),
}


def make_ports(recipe: Recipe, role: str) -> tuple[Port, ...]:
    """What a role answers on. Pure."""
    ports = [SSH] if recipe.ssh.enabled else []
    kubernetes = recipe.kubernetes
    if kubernetes is not None:
        ports += [PACKAGES_PORT, *BY_ROLE[role]]
        if kubernetes.distribution == "k3s" and role != "none":
            ports += K3S_EVERYWHERE
            # Its witness of etcd serves the supervisor on the API server's port.
            ports += [API] if role == "control" else []
    return (*ports, *make_own_ports(recipe.firewall.open))


def make_own_ports(words: Sequence[str]) -> tuple[Port, ...]:
    """The recipe's own, as `8080/tcp` or `30000-30100/udp`."""
    pairs = [word.split("/") for word in words]
    return tuple(Port(first, protocol, "opened by the recipe") for first, protocol in pairs)


def make_ruleset(recipe: Recipe, role: str) -> str:
    """The text that `nft -f` loads for a role: it replaces what was in force, whole."""
    pods = recipe.kubernetes.pod_cidr if isinstance(recipe.kubernetes, Kubernetes) else ""
    family = "ip6" if pods and ipaddress.ip_network(pods).version == 6 else "ip"
    return render("firewall/ruleset.nft.j2", role=role, ports=make_ports(recipe, role), pods=pods, family=family)


def make_firewall_tree(recipe: Recipe) -> Tree:
    """The layer: rulesets, the script that picks one, its units. Empty where the recipe wants none."""
    tree = Tree()
    if not recipe.firewall.enabled:
        return tree
    for role in ROLES:
        tree.file(f"{FOLDER}/{role}.nft", make_ruleset(recipe, role))
    tree.folder("/etc/cumulet/firewall.d")
    tree.file(SCRIPT, render("firewall/load.sh.j2", folder=FOLDER), 0o755)
    for unit, target in ((UNIT, "sysinit.target"), (WATCH, "multi-user.target")):
        tree.file(f"{UNITS}/{unit}", render(f"firewall/{unit}.j2"))
        tree.link(f"{ETC_UNITS}/{target}.wants/{unit}", f"{UNITS}/{unit}")
    return tree
