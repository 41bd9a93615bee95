"""Two Kubernetes distributions as pure functions: role -> files, units, commands, join material.

Nothing here reads a host or changes one; the image builder packs what these
functions give, and site bring-up sends the same to nodes.
"""

from cumulet.kubernetes.distribution import DISTRIBUTIONS, Distribution
from cumulet.kubernetes.model import ROLES, Addon, Cluster, Join, Node, Role, Setup, Text

__all__ = ["DISTRIBUTIONS", "ROLES", "Addon", "Cluster", "Distribution", "Join", "Node", "Role", "Setup", "Text"]
