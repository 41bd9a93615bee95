"""Two Kubernetes distributions as pure functions: role -> files, units, commands, join material.

Nothing here reads a host or changes one; the image builder packs what these
functions give, and site bring-up sends the same to nodes.
"""

from cumulet.kubernetes.addons import make_addons
from cumulet.kubernetes.distribution import DISTRIBUTIONS, Distribution
from cumulet.kubernetes.kubeadm_documents import make_containerd_config, make_taints
from cumulet.kubernetes.layout import ADMIN, CONFIG, DISCOVERY, MADE, PKI
from cumulet.kubernetes.model import ROLES, Addon, Cluster, Join, Node, Role, Setup, Text
from cumulet.kubernetes.render import make_yaml
from cumulet.kubernetes.scheduling import PACKING_SCHEDULER

__all__ = [
    "ADMIN",
    "CONFIG",
    "DISCOVERY",
    "DISTRIBUTIONS",
    "MADE",
    "PACKING_SCHEDULER",
    "PKI",
    "ROLES",
    "Addon",
    "Cluster",
    "Distribution",
    "Join",
    "Node",
    "Role",
    "Setup",
    "Text",
    "make_addons",
    "make_containerd_config",
    "make_taints",
    "make_yaml",
]
