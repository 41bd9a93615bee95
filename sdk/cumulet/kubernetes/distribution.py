"""The protocol of a distribution, and the table of those there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import cumulet.kubernetes.k3s as k3s_module
import cumulet.kubernetes.kubeadm as kubeadm_module
from cumulet.kubernetes.model import Cluster, Join, Node, Setup


class Distribution(Protocol):
    """One way to run Kubernetes. Every function is pure."""

    def make_image_setup(self, cluster: Cluster) -> Setup:
        """What lies in every image, whatever role the node will have."""

    def make_node_setup(self, cluster: Cluster, node: Node, members: Sequence[Node], join: Join | None) -> Setup:
        """What one node has on top. `members` are the nodes with etcd; `join` is None for the first of them."""


DISTRIBUTIONS: Mapping[str, Distribution] = {"k3s": k3s_module, "kubeadm": kubeadm_module}
