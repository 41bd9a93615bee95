"""What a device of a kubeadm site has and runs, by its role. Pure; the plans are made of these."""

from __future__ import annotations

from typing import Final

from cumulet.kubernetes import CONFIG, DISCOVERY, Node, Setup
from cumulet.kubernetes import kubeadm as nodes
from cumulet.site.actions import Action, Run
from cumulet.site.facts import SiteFacts
from cumulet.site.model import BALANCER, SiteDocument, SiteNode
from cumulet.site.parts import make_node

KUBECTL: Final = ("kubectl", "--kubeconfig=/etc/kubernetes/admin.conf")
SERVERS_KUBECTL: Final = (*KUBECTL, "--server=https://127.0.0.1:6443")
AUTHORITY: Final = {
    "ca.crt": 0o644, "front-proxy-ca.crt": 0o644, "etcd/ca.crt": 0o644, "sa.pub": 0o644,
    "ca.key": 0o600, "front-proxy-ca.key": 0o600, "etcd/ca.key": 0o600, "sa.key": 0o600,
}  # fmt: skip
"""What makes a device one of the cluster's servers: file below the pki folder -> permissions."""
CLIENTS: Final = {
    "/etc/kubernetes/kube-proxy.conf": "system:kube-proxy",
    "/etc/kubernetes/flannel.conf": "cumulet:flannel",
}
"""Kubeconfigs that are the same on every device: path -> who they speak for."""
ONCE: Final = (f"{CONFIG}/etcd.env", f"{CONFIG}/join.yaml", DISCOVERY)
"""Files that matter until a device is in, and never again."""
NODE_UNITS: Final = ("cumulet-network", "cumulet-balancer", "kubelet", "kube-proxy", "cumulet-flannel")
API_UNITS: Final = ("kube-apiserver", "kube-controller-manager", "kube-scheduler")
READERS: Final = {
    "haproxy.cfg": "cumulet-balancer", "kubelet.env": "kubelet", "kubelet.yaml": "kubelet",
    "kube-proxy.yaml": "kube-proxy", "flannel.json": "cumulet-flannel", "flannel.env": "cumulet-flannel",
    "kube-apiserver.env": "kube-apiserver", "kube-controller-manager.env": "kube-controller-manager",
    "kube-scheduler.env": "kube-scheduler", "kube-scheduler.yaml": "kube-scheduler",
    "masquerade.nft": "cumulet-network", "network.env": "cumulet-network",
}  # fmt: skip
"""File name -> the unit that reads it."""
ETCD_DATA: Final = "/var/lib/etcd/member-data"
RUNTIME_CONFIG: Final = "/etc/containerd/config.toml"
# A learner that is sent a snapshot connects anew and may lose the message that it is here;
# it would say it again after eleven seconds, and says it at once when it is started again.
LEARNER_STARTED: Final = (
    "systemctl is-active -q etcd.service && exit 0; for wait in 1 2 3 4 5 6; do sleep 0.5; "
    "systemctl is-active -q etcd.service && exit 0; done; mark=/run/cumulet/etcd-again; "
    "[ -e $mark ] || { touch $mark; systemctl restart --no-block etcd.service; }; exit 1"
)
VALIDITY: Final = "43800h"
DROP_TOKENS: Final = (
    *KUBECTL, "-n", "kube-system", "delete", "secret", "--field-selector=type=bootstrap.kubernetes.io/token",
)  # fmt: skip


def list_paths(site: SiteDocument, node: SiteNode) -> list[str]:
    """The files of a device whose digests a plan looks at."""
    setup = nodes.make_node_setup(site.cluster, Node(node.name, node.role, node.address), [], None)
    return [*dict.fromkeys((*setup.files, *CLIENTS, RUNTIME_CONFIG))]


def find_members(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[SiteNode]:
    """The members of etcd once this device is in: those there are, those that come before it, and itself."""
    addresses = {each.address for each in facts.members}
    index = site.servers.index(node)
    return [each for place, each in enumerate(site.servers) if place <= index or each.address in addresses]


def make_setup(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> Setup:
    """The files of a device, but for those that are known only while the plan runs."""
    members = []
    if node in site.servers:
        members = [Node(each.name, each.role, each.address) for each in find_members(site, node, facts)]
    setup = nodes.make_node_setup(site.cluster, make_node(node, facts.hosts[node.name]), members, None)
    return Setup({path: text for path, text in setup.files.items() if path != RUNTIME_CONFIG})


def units_of(node: SiteNode) -> tuple[str, ...]:
    """The units that run on a device of this role."""
    if node.role == "single":
        return ("cumulet-network", "etcd", "kubelet", "kube-proxy", *API_UNITS)
    etcd = ("etcd",) if node.role in ("control", "master") else ()
    return (*etcd, *NODE_UNITS, *(API_UNITS if node.role == "master" else ()))


def find_seat(site: SiteDocument, facts: SiteFacts) -> SiteNode | None:
    """A device whose etcd answers: where members are listed, added and removed."""
    for each in site.servers:
        host = facts.hosts.get(each.name)
        if host is not None and host.made and "etcd" in host.active and facts.member(each.name) is not None:
            return each
    return None


def make_certificates(node: SiteNode) -> tuple[Action, ...]:
    """kubeadm makes what is missing: certificates signed by the authority, and kubeconfigs."""
    init = Run(("kubeadm", "init", "--config", f"{CONFIG}/init.yaml"), seconds=300)
    if node.role == "single":
        return (init,)
    # One that an earlier run or the life as a worker has left leads elsewhere; kubeadm would refuse it.
    clear = Run(("rm", "-f", "/etc/kubernetes/kubelet.conf"))
    # kubeadm ties a server's kubelet to the API server beside it; the control node has none.
    server = f"s|server: https://.*|server: https://{BALANCER}|"
    return (clear, init, Run(("sed", "-i", server, "/etc/kubernetes/kubelet.conf")))


def make_clients() -> tuple[Action, ...]:
    """Kubeconfigs of programs, into the vault; made on a device that has the authority."""
    words = ("kubeadm", "kubeconfig", "user", "--config", f"{CONFIG}/init.yaml", f"--validity-period={VALIDITY}")
    return tuple(Run((*words, f"--client-name={who}"), into=f"client{path}") for path, who in CLIENTS.items())
