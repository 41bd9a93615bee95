"""Where things lie on a node, and what our images are called."""

from __future__ import annotations

from typing import Final

CONFIG: Final = "/etc/cumulet/kubernetes"
"""Settings of this node, made when it becomes part of a cluster."""
MADE: Final = f"{CONFIG}/made"
"""Is there once the settings are complete; nothing of Kubernetes starts before."""
DISCOVERY: Final = f"{CONFIG}/discovery.conf"
"""Where the API servers are, and who they must be, for a worker that joins."""
NODE_ENV: Final = "/run/cumulet/node.env"
"""CUMULET_ROLE, CUMULET_HOSTNAME, CUMULET_ADDRESS: what the machine was told at boot."""
OWN_ADDRESS: Final = "10.41.0.1"
"""Address of a lone node that was given none; on its loopback interface."""
SHARE: Final = "/usr/share/cumulet/kubernetes"
FILL: Final = f"{SHARE}/single"
PROGRAMS: Final = "/usr/lib/cumulet"
SETUP: Final = f"{PROGRAMS}/kubernetes-setup"
NETWORK: Final = f"{PROGRAMS}/kubernetes-network"
PREPARE: Final = f"{PROGRAMS}/kubernetes-resolver"
PKI: Final = "/etc/kubernetes/pki"
ADMIN: Final = "/etc/kubernetes/super-admin.conf"
IMAGES: Final = "/usr/share/cumulet/images"
"""preload.json, manifests and configs of the images in the root file system."""
LAYERS: Final = "/usr/lib/cumulet/layers"
"""Unpacked image layers, which containers mount from here."""

VERSIONS: Final = {
    "kubernetes": "1.36.3",
    "coredns": "1.14.7",
    "metrics-server": "0.9.0",
    "etcd": "3.7.3",
    "flannel": "0.28.10",
}
"""Versions of the programs of the newest kubeadm pin; a test holds them to go.mod."""


def make_image_name(name: str, version: str) -> str:
    """The name of one of our own images; no registry answers to it, and none is asked."""
    return f"cumulet.dev/{name}:{version}"


PAUSE: Final = make_image_name("pause", VERSIONS["kubernetes"])
