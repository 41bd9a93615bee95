"""Upstream Kubernetes: kubeadm makes certificates, kubeconfigs and joins; systemd runs the control plane.

Static pods wait for each other through probes that a slow machine does not meet
in time; services start at once and in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from cumulet.kubernetes import kubeadm_documents as documents
from cumulet.kubernetes import kubeadm_services as services
from cumulet.kubernetes.addons import make_addons
from cumulet.kubernetes.layout import (
    CONFIG,
    DISCOVERY,
    FILL,
    MADE,
    NETWORK,
    NODE_ENV,
    OWN_ADDRESS,
    PREPARE,
    SETUP,
    SHARE,
)
from cumulet.kubernetes.model import Cluster, Join, Node, Setup, Text
from cumulet.kubernetes.render import render

BLANK: Final = Node("@NAME@", "single", "@ADDRESS@")
MODULES: Final = ("overlay", "nf_conntrack", "nf_tables", "veth")
SYSCTL: Final = {
    "kernel.panic": 10,
    "kernel.panic_on_oops": 1,
    "vm.overcommit_memory": 1,
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "fs.inotify.max_user_instances": 8192,
    "fs.inotify.max_user_watches": 524288,
}


def make_image_setup(cluster: Cluster) -> Setup:
    """What lies in every image: units, static settings, and the blanks that a lone node fills at first boot."""
    units = services.make_units()
    files = {f"/usr/lib/systemd/system/{name}": text for name, text in units.items()}
    files |= {
        "/etc/containerd/config.toml": documents.make_containerd_config(BLANK),
        "/etc/crictl.yaml": Text("runtime-endpoint: unix:///run/containerd/containerd.sock\n"),
        "/usr/lib/modules-load.d/cumulet-kubernetes.conf": Text("\n".join(MODULES) + "\n"),
        "/usr/lib/sysctl.d/90-cumulet-kubernetes.conf": Text(
            "".join(f"{name} = {value}\n" for name, value in SYSCTL.items())
        ),
        SETUP: Text(_make_setup_script(), 0o755),
        NETWORK: Text(render("network.sh.j2", config=CONFIG), 0o755),
        PREPARE: Text(render("resolver.sh.j2"), 0o755),
    }
    files |= {f"{SHARE}/addons/{name}": text for name, text in make_addons(cluster).items()}
    blanks = make_node_setup(cluster, BLANK, [BLANK], None)
    files |= {FILL + path: text for path, text in blanks.files.items()}
    return Setup(files, services.LINKS, services.ENABLED)


def make_node_setup(cluster: Cluster, node: Node, members: Sequence[Node], join: Join | None) -> Setup:
    """What one node has on top of its image.

    `members` are the nodes that keep etcd, this one included if it does; more than
    one means that the others run already. `join` lets a worker in; nodes with etcd
    need none.
    """
    files = {
        f"{CONFIG}/kubelet.env": documents.make_kubelet_environment(node),
        f"{CONFIG}/kubelet.yaml": documents.make_kubelet_config(cluster, node),
        f"{CONFIG}/kube-proxy.yaml": documents.make_proxy_config(cluster, node),
        f"{CONFIG}/masquerade.nft": Text(render("masquerade.nft.j2", pods=cluster.pod_cidr)),
        f"{CONFIG}/network.env": documents.make_network_environment(
            node, loopback="@LOOPBACK@" if node == BLANK else "no"
        ),
    }
    if node.keeps_etcd:
        files[f"{CONFIG}/init.yaml"] = documents.make_init(cluster, node)
        files[f"{CONFIG}/etcd.env"] = documents.make_etcd_environment(node, members, started=len(members) > 1)
    elif join is not None:
        files[f"{CONFIG}/join.yaml"] = documents.make_join(cluster, node, join)
        files[DISCOVERY] = documents.make_discovery(cluster, join)
    if node.role == "single":
        files["/etc/cni/net.d/10-cumulet.conflist"] = documents.make_network_config(cluster.first_pod_subnet)
    elif node.role != "none":
        files["/etc/cumulet/flannel.json"] = documents.make_flannel_config(cluster)
        files[f"{CONFIG}/flannel.env"] = documents.make_flannel_environment(node)
        # The addons of a site are its installer's business, not of the unit that serves a lone node.
        files[services.ADDONS_DONE] = Text("")
        files["/etc/containerd/config.toml"] = documents.make_containerd_config(node)
    if cluster.balanced:
        files[f"{CONFIG}/haproxy.cfg"] = documents.make_balancer_config(cluster)
    if node.serves_api:
        files |= services.make_control_plane(cluster, node)
    return Setup(files)


def _make_setup_script() -> str:
    return render(
        "setup.sh.j2",
        made=MADE,
        fill=FILL,
        node_env=NODE_ENV,
        own_address=OWN_ADDRESS,
        config=CONFIG,
        network=NETWORK,
    )
