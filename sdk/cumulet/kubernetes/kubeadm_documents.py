"""The settings of kubeadm nodes: kubeadm, kubelet, kube-proxy, etcd, containerd, CNI. All pure."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from cumulet.kubernetes.layout import DISCOVERY, PAUSE, PKI, VERSIONS
from cumulet.kubernetes.model import Cluster, Join, Node, Text
from cumulet.kubernetes.render import make_yaml, render

SOCKET = "unix:///run/containerd/containerd.sock"
# kubeadm makes certificates and kubeconfigs; everything else it could do is
# ours (units, settings) or done once the API answers (addons).
SKIPPED = (
    "preflight", "etcd", "control-plane", "kubelet-start", "wait-control-plane", "upload-config",
    "upload-certs", "mark-control-plane", "bootstrap-token", "kubelet-finalize", "addon", "show-join-command",
)  # fmt: skip
# A phone may lie in a drawer for a year, or boot with a clock that is years off.
VALID = "43800h0m0s"
ROLE_LABELS = {"control": "node-role.kubernetes.io/etcd", "master": "node-role.kubernetes.io/control-plane"}
UNUSED_PLUGINS = (
    "io.containerd.snapshotter.v1.blockfile",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.erofs",
    "io.containerd.snapshotter.v1.zfs",
    "io.containerd.nri.v1.nri",
    "io.containerd.internal.v1.tracing",
    "io.containerd.tracing.processor.v1.otlp",
)


def make_containerd_config(node: Node) -> Text:
    """containerd's config.toml, version 3."""
    return Text(render("containerd.toml.j2", disabled=UNUSED_PLUGINS, pause=PAUSE, node=node))


def make_init(cluster: Cluster, node: Node) -> Text:
    """What kubeadm needs to start a cluster on this node."""
    first = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "InitConfiguration",
        "localAPIEndpoint": {"advertiseAddress": node.address, "bindPort": 6443},
        "nodeRegistration": _make_registration(cluster, node),
        "skipPhases": list(SKIPPED),
    }
    return Text(make_yaml(first, make_cluster_document(cluster)))


def make_cluster_document(cluster: Cluster) -> dict[str, Any]:
    """kubeadm's ClusterConfiguration."""
    document: dict[str, Any] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "ClusterConfiguration",
        "clusterName": cluster.name,
        "kubernetesVersion": f"v{VERSIONS['kubernetes']}",
        # Emulated and small CPUs need seconds for an RSA key and milliseconds for this.
        "encryptionAlgorithm": "ECDSA-P256",
        "certificateValidityPeriod": VALID,
        "certificatesDir": PKI,
        "imageRepository": "cumulet.dev",
        "networking": {
            "dnsDomain": cluster.domain,
            "podSubnet": cluster.pod_cidr,
            "serviceSubnet": cluster.service_cidr,
        },
        "apiServer": {"certSANs": ["localhost", "127.0.0.1"]},
    }
    if cluster.endpoint:
        document["controlPlaneEndpoint"] = cluster.endpoint
    return document


def make_join(cluster: Cluster, node: Node, join: Join) -> Text:
    """What kubeadm needs to let this worker join. Servers do not join: they share the authority and start."""
    document: dict[str, Any] = {
        "apiVersion": "kubeadm.k8s.io/v1beta4",
        "kind": "JoinConfiguration",
        # A file names the authority itself, so nothing has to be asked of somebody not yet trusted.
        "discovery": {"file": {"kubeConfigPath": DISCOVERY}, "tlsBootstrapToken": join.token},
        "nodeRegistration": _make_registration(cluster, node),
        "skipPhases": ["preflight"],
    }
    document["timeouts"] = {"tlsBootstrap": "10m0s", "kubeletHealthCheck": "10m0s", "discovery": "10m0s"}
    return Text(make_yaml(document), 0o600)


def make_discovery(cluster: Cluster, join: Join) -> Text:
    """The kubeconfig that says where the API servers are and who they must be; it opens nothing by itself."""
    authority = base64.b64encode(join.authority.encode()).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [
            {
                "name": cluster.name,
                "cluster": {"server": f"https://{join.endpoint}", "certificate-authority-data": authority},
            }
        ],
        # kubeadm wants a user to be named, and puts the token in itself.
        "users": [{"name": "join", "user": {}}],
        "contexts": [{"name": "join", "context": {"cluster": cluster.name, "user": "join"}}],
        "current-context": "join",
    }
    return Text(make_yaml(document))


def make_kubelet_config(cluster: Cluster, node: Node) -> Text:
    """The kubelet's settings: little memory, slow storage."""
    document: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True, "cacheTTL": "2m0s"},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "systemd" if node.cgroup == 2 else "cgroupfs",
        "clusterDNS": [cluster.dns_address],
        "clusterDomain": cluster.domain,
        "containerRuntimeEndpoint": SOCKET,
        "containerLogMaxSize": "5Mi",
        "containerLogMaxFiles": 2,
        "resolvConf": "/run/cumulet/resolv.conf",
        "failSwapOn": False,
        "memorySwap": {"swapBehavior": "NoSwap"},
        "maxPods": 64,
        "rotateCertificates": True,
        # A phone's storage is small and its images are few and pinned.
        "evictionHard": {"memory.available": "64Mi", "nodefs.available": "4%", "imagefs.available": "4%"},
        "imageGCHighThresholdPercent": 95,
        "imageGCLowThresholdPercent": 90,
        "runtimeRequestTimeout": "10m0s",
        "shutdownGracePeriod": "20s",
        "shutdownGracePeriodCriticalPods": "5s",
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        "enableProfilingHandler": False,
    }
    if taints := make_taints(cluster, node):
        document["registerWithTaints"] = taints
    if node.cgroup == 1:
        document["failCgroupV1"] = False
    if node.restricted:
        document["oomScoreAdj"] = 0
    if node.keeps_etcd:
        # Signed by the cluster's own authority and good for this name and
        # address; a key of its own would cost seconds and a request to approve.
        document["tlsCertFile"] = f"{PKI}/apiserver.crt"
        document["tlsPrivateKeyFile"] = f"{PKI}/apiserver.key"
    else:
        document["serverTLSBootstrap"] = True
    return Text(make_yaml(document))


def make_kubelet_environment(node: Node) -> Text:
    """The two things that the kubelet takes on its command line only."""
    return Text(f'ARGS="--hostname-override={node.name} --node-ip={node.address}"\n')


def make_proxy_config(cluster: Cluster, node: Node) -> Text:
    """kube-proxy's settings: nftables, kernel limits left alone."""
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clusterCIDR": cluster.pod_cidr,
        "hostnameOverride": node.name,
        "clientConnection": {"kubeconfig": "/etc/kubernetes/kube-proxy.conf"},
        "conntrack": {"maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "metricsBindAddress": "127.0.0.1:10249",
    }
    return Text(make_yaml(document))


def make_etcd_environment(node: Node, members: Sequence[Node], *, started: bool) -> Text:
    """etcd's settings as its own environment variables. `started`: the others run already."""
    local = node.role == "single"
    peer = "127.0.0.1" if local else node.address
    clients = "https://127.0.0.1:2379" if local else f"https://127.0.0.1:2379,https://{node.address}:2379"
    peers = [f"{each.name}=https://{'127.0.0.1' if local else each.address}:2380" for each in members]
    values = {
        "NAME": node.name,
        "DATA_DIR": "/var/lib/etcd/member-data",
        "LISTEN_CLIENT_URLS": clients,
        "ADVERTISE_CLIENT_URLS": clients.rsplit(",", maxsplit=1)[-1],
        "LISTEN_PEER_URLS": f"https://{peer}:2380",
        "INITIAL_ADVERTISE_PEER_URLS": f"https://{peer}:2380",
        "INITIAL_CLUSTER": ",".join(peers),
        "INITIAL_CLUSTER_STATE": "existing" if started else "new",
        "LISTEN_METRICS_URLS": "http://127.0.0.1:2381",
        # Phones' flash stalls for a second now and then; that must not cost an election.
        "HEARTBEAT_INTERVAL": "300",
        "ELECTION_TIMEOUT": "3000",
        "QUOTA_BACKEND_BYTES": str(1 << 30),
        "SNAPSHOT_COUNT": "5000",
        "LOG_LEVEL": "warn",
        "CERT_FILE": f"{PKI}/etcd/server.crt",
        "KEY_FILE": f"{PKI}/etcd/server.key",
        "CLIENT_CERT_AUTH": "true",
        "TRUSTED_CA_FILE": f"{PKI}/etcd/ca.crt",
        "PEER_CERT_FILE": f"{PKI}/etcd/peer.crt",
        "PEER_KEY_FILE": f"{PKI}/etcd/peer.key",
        "PEER_CLIENT_CERT_AUTH": "true",
        "PEER_TRUSTED_CA_FILE": f"{PKI}/etcd/ca.crt",
    }
    return Text("".join(f"ETCD_{name}={value}\n" for name, value in values.items()))


def make_network_environment(node: Node, *, loopback: str) -> Text:
    """What the network script reads."""
    return Text(f"ADDRESS={node.address}\nLOOPBACK={loopback}\n")


def make_network_config(subnet: str) -> Text:
    """The CNI list of a node whose pods have `subnet`: routed point to point, no bridge, no filter rules."""
    ipam = {"type": "host-local", "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}
    ipam["dataDir"] = "/run/cni/networks"
    document = {
        "cniVersion": "1.0.0",
        "name": "cumulet",
        "plugins": [{"type": "ptp", "ipMasq": False, "ipam": ipam}],
    }
    return Text(json.dumps(document, indent=2) + "\n")


def make_flannel_environment(node: Node) -> Text:
    """What flanneld takes from its surroundings."""
    return Text(f"NODE_NAME={node.name}\nARGS=--address={node.address}\n")


def make_balancer_config(cluster: Cluster) -> Text:
    """haproxy's settings: this node's own way to whichever API servers answer."""
    return Text(render("haproxy.cfg.j2", endpoint=cluster.endpoint, servers=cluster.balanced))


def make_flannel_config(cluster: Cluster) -> Text:
    """What flanneld reads: routes to neighbours on the same link."""
    document = {"Network": cluster.pod_cidr, "EnableIPv4": True, "Backend": {"Type": "host-gw"}}
    return Text(json.dumps(document, indent=2) + "\n")


def make_taints(cluster: Cluster, node: Node) -> list[dict[str, str]]:
    """What keeps work away from a node that is not for it."""
    if cluster.masters_work or node.role not in ROLE_LABELS:
        return []
    return [{"key": ROLE_LABELS[node.role], "effect": "NoSchedule"}]


def _make_registration(cluster: Cluster, node: Node) -> dict[str, Any]:
    taints = make_taints(cluster, node)
    return {"name": node.name, "criSocket": SOCKET, "imagePullPolicy": "Never", "taints": taints}
