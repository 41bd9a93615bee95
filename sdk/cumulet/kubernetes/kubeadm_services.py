"""The units of kubeadm nodes and the arguments of the control plane. All pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from cumulet.kubernetes.kubeadm_documents import VALID
from cumulet.kubernetes.layout import ADMIN, CONFIG, IMAGES, MADE, NETWORK, PKI, PREPARE, SETUP, SHARE
from cumulet.kubernetes.model import Cluster, Node, Text
from cumulet.kubernetes.render import make_yaml
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.kubernetes.units import Service, make_service, make_target

TARGET: Final = "cumulet-kubernetes.target"
FIRST: Final = "cumulet-kubernetes.service"
ADDONS_DONE: Final = f"{CONFIG}/addons-done"
PROXY_CONFIG: Final = "/etc/kubernetes/kube-proxy.conf"
FLANNEL_CONFIG: Final = "/etc/kubernetes/flannel.conf"
SCHEDULER_CONFIG: Final = f"{CONFIG}/kube-scheduler.yaml"
SCHEDULER_ACCESS: Final = "/etc/kubernetes/scheduler.conf"
LEASE: Final = "60s"
RENEWAL: Final = "40s"
KUBE_PROGRAMS: Final = (
    "flanneld", "kubeadm", "kubectl", "kubelet", "kube-apiserver", "kube-controller-manager", "kube-proxy",
    "kube-scheduler",
)  # fmt: skip
LINKS: Final[Mapping[str, str]] = {
    **{f"/usr/bin/{name}": "kube" for name in KUBE_PROGRAMS},
    "/usr/bin/etcdctl": "etcd",
    "/usr/bin/etcdutl": "etcd",
    "/usr/bin/ctr": "containerd",
    "/usr/lib/cumulet/cumulet-preload": "../../bin/containerd",
}
ENABLED: Final = (
    "containerd.service", "cumulet-kubernetes.service", "cumulet-kubernetes.target", "etcd.service",
    "kube-apiserver.service", "kube-controller-manager.service", "kube-scheduler.service", "kubelet.service",
    "kube-proxy.service", "cumulet-ready.service", "cumulet-addons.service", "cumulet-network.service",
    "cumulet-ready.target", "cumulet-balancer.service", "cumulet-flannel.service",
)  # fmt: skip


def make_units() -> dict[str, Text]:
    """All units by name. Those of a role the node does not have are skipped by their conditions."""
    services = {
        "containerd.service": _CONTAINERD,
        FIRST: _SETUP,
        "cumulet-network.service": _NETWORK,
        "etcd.service": _ETCD,
        "kube-apiserver.service": _run("kube-apiserver", after=("etcd.service",), weight=200),
        "kube-controller-manager.service": _run("kube-controller-manager", after=("kube-apiserver.service",)),
        "kube-scheduler.service": _run("kube-scheduler", after=("kube-apiserver.service",)),
        "kubelet.service": _KUBELET,
        "kube-proxy.service": _PROXY,
        "cumulet-balancer.service": _BALANCER,
        "cumulet-flannel.service": _FLANNEL,
        "cumulet-ready.service": _READY,
        "cumulet-addons.service": _ADDONS,
    }
    return {name: make_service(each) for name, each in services.items()} | {
        TARGET: _TARGET,
        "cumulet-ready.target": _READY_TARGET,
    }


def make_control_plane(cluster: Cluster, node: Node) -> dict[str, Text]:
    """The command lines of the control plane's services, as environment files."""
    programs = {
        "kube-apiserver": _make_api_arguments(cluster, node),
        "kube-controller-manager": _make_controller_arguments(cluster, node),
        "kube-scheduler": _make_scheduler_arguments(),
    }
    files = {f"{CONFIG}/{name}.env": _make_environment(flags) for name, flags in programs.items()}
    election = {"leaderElect": True, "leaseDuration": LEASE, "renewDeadline": RENEWAL}
    election = {"leaderElect": False} if node.role == "single" else election
    scheduler = make_scheduler_config(SCHEDULER_ACCESS, **election)
    return {**files, SCHEDULER_CONFIG: Text(make_yaml(scheduler))}


def make_preload_unit(mark: str) -> Text:
    """The unit that makes containerd know a newer root's images; `mark` is there when it has been done."""
    return make_service(
        Service(
            "Make the images of this root known to containerd",
            (f"/usr/lib/cumulet/cumulet-preload {IMAGES} /var/lib/containerd", f"/bin/mkdir -p {mark}"),
            kind="oneshot",
            before=("containerd.service",),
            when=(f"PathExists=!{mark}",),
            wanted_by="containerd.service",
        )
    )


def _run(name: str, *, after: tuple[str, ...], weight: int = 50) -> Service:
    return Service(
        name,
        (f"/usr/bin/{name} $ARGS",),
        # The two that follow the API server do not tell when they are up.
        kind="notify" if name == "kube-apiserver" else "exec",
        environment_file=f"{CONFIG}/{name}.env",
        after=(FIRST, *after),
        wants=after,
        when=(f"PathExists={MADE}", f"PathExists={CONFIG}/{name}.env"),
        wanted_by=TARGET,
        weight=weight,
        # An API server waits for the last of its clients to hang up, which watchers never do.
        extra=("TimeoutStopSec=5",) if name == "kube-apiserver" else (),
    )


_CONTAINERD = Service(
    "Container runtime",
    ("/usr/bin/containerd",),
    wanted_by="multi-user.target",
    weight=200,
    extra=("Delegate=yes", "KillMode=process", "LimitNPROC=infinity", "LimitCORE=infinity", "TasksMax=infinity"),
)
_SETUP = Service(
    "Prepare a cluster of one node, once",
    (SETUP,),
    kind="oneshot",
    # The node's role and name, and a clock that is not far off, decide what is made.
    after=("cumulet-node.service", "time-set.target"),
    before=(TARGET,),
    when=(f"PathExists=!{MADE}",),
    wanted_by=TARGET,
    weight=200,
)
_NETWORK = Service(
    "Addresses and rules of the cluster's network",
    (NETWORK,),
    kind="oneshot",
    after=(FIRST,),
    when=(f"PathExists={MADE}",),
    wanted_by=TARGET,
)
_ETCD = Service(
    "etcd",
    ("/usr/bin/etcd",),
    environment_file=f"{CONFIG}/etcd.env",
    after=(FIRST, "cumulet-network.service"),
    when=(f"PathExists={MADE}", f"PathExists={CONFIG}/etcd.env"),
    wanted_by=TARGET,
    weight=200,
    extra=("IOWeight=500", "StateDirectory=etcd", "StateDirectoryMode=0700"),
)
_KUBELET = Service(
    "kubelet",
    (
        f"/usr/bin/kubelet --config={CONFIG}/kubelet.yaml --kubeconfig=/etc/kubernetes/kubelet.conf"
        " --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf $ARGS",
    ),
    before_start=(PREPARE,),
    environment_file=f"{CONFIG}/kubelet.env",
    after=(FIRST, "containerd.service", "cumulet-network.service", "systemd-resolved.service"),
    wants=("containerd.service",),
    when=(
        f"PathExists={CONFIG}/kubelet.env",
        "PathExists=|/etc/kubernetes/kubelet.conf",
        "PathExists=|/etc/kubernetes/bootstrap-kubelet.conf",
    ),
    wanted_by=TARGET,
    weight=200,
    extra=("KillMode=process",),
)
_BALANCER = Service(
    "This node's own way to the API servers",
    (f"/usr/sbin/haproxy -Ws -f {CONFIG}/haproxy.cfg -p /run/cumulet/balancer.pid",),
    before_start=("/bin/mkdir -p /run/cumulet",),
    after=("cumulet-network.service",),
    when=(f"PathExists={CONFIG}/haproxy.cfg",),
    wanted_by=TARGET,
    weight=200,
    extra=("ExecReload=/bin/kill -USR2 $MAINPID", "KillMode=mixed"),
)
_FLANNEL = Service(
    "Routes to the pods of other nodes",
    ("/usr/bin/flanneld $ARGS",),
    environment_file=f"{CONFIG}/flannel.env",
    after=(FIRST, "cumulet-network.service", "cumulet-balancer.service"),
    when=(f"PathExists={FLANNEL_CONFIG}", f"PathExists={CONFIG}/flannel.env"),
    wanted_by=TARGET,
    weight=50,
)
_PROXY = Service(
    "kube-proxy",
    (f"/usr/bin/kube-proxy --config={CONFIG}/kube-proxy.yaml",),
    kind="exec",
    before_start=(
        f"/bin/sh -c 'test -s {PROXY_CONFIG} || {{ kubeadm kubeconfig user --config {CONFIG}/init.yaml"
        f" --client-name system:kube-proxy >{PROXY_CONFIG}.new && mv {PROXY_CONFIG}.new {PROXY_CONFIG}; }}'",
    ),
    after=(FIRST, "kube-apiserver.service", "cumulet-network.service"),
    when=(
        f"PathExists={MADE}",
        f"PathExists=|{PROXY_CONFIG}",
        f"PathExists=|{PKI}/ca.key",
    ),
    wanted_by=TARGET,
    weight=50,
    extra=("UMask=0077",),
)
_READY = Service(
    "Wait until this node is Ready",
    ("/usr/bin/kube node-ready",),
    kind="oneshot",
    after=(FIRST, "kube-apiserver.service"),
    before=("cumulet-ready.target",),
    when=("PathExists=/etc/kubernetes/kubelet.conf",),
    wanted_by="cumulet-ready.target",
    extra=("StandardOutput=journal+console",),
)
_ADDONS = Service(
    "Put the addons into a new cluster, once",
    (
        f"/usr/bin/kubectl --kubeconfig={ADMIN} apply --server-side --force-conflicts --validate=false"
        f" -f {SHARE}/addons",
        f"/bin/touch {ADDONS_DONE}",
    ),
    kind="oneshot",
    after=("cumulet-ready.service", "kube-apiserver.service"),
    when=(f"PathExists=!{ADDONS_DONE}", f"PathExists={MADE}", f"PathExists={ADMIN}"),
    wanted_by=TARGET,
    extra=("Restart=on-failure", "RestartSec=5"),
)
_TARGET = make_target("Kubernetes on this node")
_READY_TARGET = make_target(
    "This node is Ready", when=("PathExists=/etc/kubernetes/kubelet.conf",), requires=("cumulet-ready.service",)
)


def _make_environment(flags: Mapping[str, str]) -> Text:
    return Text('ARGS="' + " ".join(f"--{name}={value}" for name, value in flags.items()) + '"\n')


def _make_api_arguments(cluster: Cluster, node: Node) -> dict[str, str]:
    return {
        "advertise-address": node.address,
        "secure-port": "6443",
        "allow-privileged": "true",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "enable-aggregator-routing": "true",
        "enable-bootstrap-token-auth": "true",
        "profiling": "false",
        "client-ca-file": f"{PKI}/ca.crt",
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
        "etcd-servers": "https://127.0.0.1:2379",
        "etcd-cafile": f"{PKI}/etcd/ca.crt",
        "etcd-certfile": f"{PKI}/apiserver-etcd-client.crt",
        "etcd-keyfile": f"{PKI}/apiserver-etcd-client.key",
        "kubelet-client-certificate": f"{PKI}/apiserver-kubelet-client.crt",
        "kubelet-client-key": f"{PKI}/apiserver-kubelet-client.key",
        "kubelet-preferred-address-types": "InternalIP,Hostname",
        "proxy-client-cert-file": f"{PKI}/front-proxy-client.crt",
        "proxy-client-key-file": f"{PKI}/front-proxy-client.key",
        "requestheader-client-ca-file": f"{PKI}/front-proxy-ca.crt",
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "service-account-issuer": f"https://kubernetes.default.svc.{cluster.domain}",
        "service-account-key-file": f"{PKI}/sa.pub",
        "service-account-signing-key-file": f"{PKI}/sa.key",
        "service-cluster-ip-range": cluster.service_cidr,
    }


def _make_controller_arguments(cluster: Cluster, node: Node) -> dict[str, str]:
    config = "/etc/kubernetes/controller-manager.conf"
    return {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "allocate-node-cidrs": "true",
        "cluster-cidr": cluster.pod_cidr,
        "service-cluster-ip-range": cluster.service_cidr,
        "cluster-name": cluster.name,
        "cluster-signing-cert-file": f"{PKI}/ca.crt",
        "cluster-signing-key-file": f"{PKI}/ca.key",
        # As long as what kubeadm signs: a node that was switched off for a year must still be let in.
        "cluster-signing-duration": VALID,
        "root-ca-file": f"{PKI}/ca.crt",
        "service-account-private-key-file": f"{PKI}/sa.key",
        "use-service-account-credentials": "true",
        "flex-volume-plugin-dir": "/var/lib/kubelet/volume-plugins",
        "profiling": "false",
        # At its start each of forty controllers asks for an account of its own; at the usual 20 requests a second the
        # one that gives nodes their addresses waits five seconds for its turn.
        "kube-api-qps": "100",
        "kube-api-burst": "200",
        **_make_election_arguments(node),
    }


def _make_scheduler_arguments() -> dict[str, str]:
    return {
        "config": SCHEDULER_CONFIG,
        "authentication-kubeconfig": SCHEDULER_ACCESS,
        "authorization-kubeconfig": SCHEDULER_ACCESS,
        "secure-port": "0",
    }


def _make_election_arguments(node: Node) -> dict[str, str]:
    """Nobody else scrapes this one, and a certificate of its own costs seconds; a lone one needs no election."""
    shared = {"leader-elect": "false" if node.role == "single" else "true", "secure-port": "0"}
    if node.role != "single":
        shared |= {"leader-elect-lease-duration": LEASE, "leader-elect-renew-deadline": RENEWAL}
    return shared
