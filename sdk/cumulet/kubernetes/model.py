"""The values that both distributions work from and give back: cluster, node, setup."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["none", "single", "control", "master", "worker"]
ROLES: tuple[Role, ...] = ("none", "single", "control", "master", "worker")
Addon = Literal["coredns", "metrics-server"]


@dataclass(frozen=True, slots=True)
class Cluster:
    """What every node of a cluster agrees on."""

    name: str = "cumulet"
    domain: str = "cluster.local"
    pod_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    addons: tuple[Addon, ...] = ("coredns", "metrics-server")
    endpoint: str = ""
    """host:port where every node finds an API server; empty: the first one's own."""
    balanced: tuple[str, ...] = ()
    """Addresses of the API servers behind `endpoint`, which a balancer on every node leads to."""
    masters_work: bool = True
    """Whether control and masters take work like any worker."""

    @property
    def dns_address(self) -> str:
        """The tenth service address, where the cluster's DNS answers."""
        return str(ipaddress.ip_network(self.service_cidr)[10])

    @property
    def first_pod_subnet(self) -> str:
        """The first /24 of the pod addresses: the one that a lone node is given."""
        network = ipaddress.ip_network(self.pod_cidr)
        return str(next(network.subnets(new_prefix=max(24, network.prefixlen))))


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its name, its role, the address by which the others reach it."""

    name: str
    role: Role
    address: str
    cgroup: Literal[1, 2] = 2
    """Version of the control groups; a device has 2, an old kernel or a container on one may have 1."""
    restricted: bool = False
    """Whether the kernel refuses to protect programs from its memory killer, as in a container."""

    @property
    def keeps_etcd(self) -> bool:
        """Whether the node has a member of etcd, and with it the cluster's authority."""
        return self.role in ("single", "control", "master")

    @property
    def serves_api(self) -> bool:
        """Whether an API server runs here."""
        return self.role in ("single", "master")


@dataclass(frozen=True, slots=True)
class Text:
    """A text file's content and permissions."""

    content: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True)
class Setup:
    """What a node needs: files by absolute path, links, units to start at boot."""

    files: Mapping[str, Text] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)
    enable: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Join:
    """What a node shows to be let in: where, and with which token.

    `authority` is the certificate of whom to trust there, as PEM; k3s has its digest in the token.
    """

    endpoint: str
    token: str
    authority: str = ""

    def __repr__(self) -> str:
        return f"Join(endpoint={self.endpoint!r}, token='***')"
