"""k3s: one program, one settings file per role. All pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from cumulet.kubernetes.model import Cluster, Join, Node, Setup, Text
from cumulet.kubernetes.render import make_yaml, render
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.kubernetes.units import Service, make_service, make_target

FOLDER: Final = "/etc/rancher/k3s"
CONFIG: Final = f"{FOLDER}/config.yaml"
AGENT_CONFIG: Final = f"{FOLDER}/agent.yaml"
"""Settings of a worker: their name tells which of the two units is to run."""
REGISTRIES: Final = f"{FOLDER}/registries.yaml"
SCHEDULER: Final = f"{FOLDER}/scheduler.yaml"
SCHEDULER_ACCESS: Final = "/var/lib/rancher/k3s/server/cred/scheduler.kubeconfig"
TOKEN: Final = f"{FOLDER}/token"
"""What lets a device in, apart from its settings: those may be shown and compared."""
IMAGES: Final = "/usr/share/cumulet/images"
"""Where the root file system keeps the airgap images."""
IMAGES_SEEN: Final = "/var/lib/rancher/k3s/agent/images"
"""Where k3s looks for them; a link into the root, made at every start."""
ARCHIVES: Final = (".tar", ".tar.bz2", ".tar.gz", ".tar.lz4", ".tar.zst", ".tbz", ".tgz", ".tzst")
"""Endings of image archives; k3s passes over a file of any other name without a word."""
KUBELET: Final = "/var/lib/rancher/k3s/agent/kubelet.kubeconfig"
"""What the kubelet shows: it is there on every role, and may read its own node."""
SHARE: Final = "/usr/share/cumulet/kubernetes"
PREPARE: Final = "/usr/lib/cumulet/kubernetes-setup"
NODE_ENV: Final = "/run/cumulet/node.env"
BLANK: Final = Node("@NAME@", "single", "@ADDRESS@")
# Not in the airgap set that is shipped by default, or of no use on a phone.
DISABLED: Final = ("traefik", "servicelb", "local-storage")
SERVER_ROLES: Final = ("single", "control", "master")
TAINTED: Final = {"control": "etcd", "master": "control-plane"}
"""Roles that k3s by itself gives work to -> the taint that keeps it away."""
PROGRAMS: Final = ("kubectl", "crictl", "ctr")


def make_image_setup(cluster: Cluster) -> Setup:
    """Units, the first-boot program and the blank settings of a lone node."""
    single = make_config(cluster, BLANK, None)
    files = {
        "/usr/lib/systemd/system/k3s.service": make_service(_make_unit("server")),
        "/usr/lib/systemd/system/k3s-agent.service": make_service(_make_unit("agent")),
        "/usr/lib/systemd/system/cumulet-kubernetes.service": make_service(_SETUP),
        "/usr/lib/systemd/system/cumulet-ready.service": make_service(_READY),
        "/usr/lib/systemd/system/cumulet-ready.target": _READY_TARGET,
        "/usr/lib/cumulet/k3s-ready": Text(
            render("k3s-ready.sh.j2", settings=f"{CONFIG} {AGENT_CONFIG}", kubelet=KUBELET), 0o755
        ),
        PREPARE: Text(render("k3s-setup.sh.j2", node_env=NODE_ENV, config=CONFIG, share=SHARE, folder=FOLDER), 0o755),
        "/usr/lib/cumulet/k3s-images": Text(render("k3s-images.sh.j2", images=IMAGES, seen=IMAGES_SEEN), 0o755),
        "/usr/lib/modules-load.d/cumulet-kubernetes.conf": Text("br_netfilter\nnf_conntrack\noverlay\n"),
        f"{SHARE}/k3s-single.yaml": Text(make_yaml(single), 0o644),
        f"{SHARE}/registries.yaml": make_registries(),
        f"{SHARE}/scheduler.yaml": make_scheduler(),
    }
    links = {f"/usr/bin/{name}": "k3s" for name in PROGRAMS}
    enable = (
        "cumulet-kubernetes.service", "k3s.service", "k3s-agent.service", "cumulet-ready.service",
        "cumulet-ready.target",
    )  # fmt: skip
    return Setup(files, links, enable)


def make_node_setup(cluster: Cluster, node: Node, members: Sequence[Node], join: Join | None) -> Setup:
    """The settings of one node. `members` decides nothing here: k3s finds its etcd members itself."""
    path = CONFIG if node.role in SERVER_ROLES else AGENT_CONFIG
    files = {path: Text(make_yaml(make_config(cluster, node, join)), 0o600), REGISTRIES: make_registries()}
    if node.serves_api:
        files[SCHEDULER] = make_scheduler()
    if join is not None:
        files[TOKEN] = Text(make_token_text(join.token), 0o600)
    return Setup(files, enable=(make_unit_name(node),))


def make_token_text(token: str) -> str:
    """The content of the file with the token."""
    return f"{token.strip()}\n"


def make_unit_name(node: Node) -> str:
    """`k3s.service` for servers, `k3s-agent.service` for workers."""
    return "k3s.service" if node.role in SERVER_ROLES else "k3s-agent.service"


def make_config(cluster: Cluster, node: Node, join: Join | None) -> dict[str, Any]:
    """config.yaml by role; every key is a flag of the pinned version.

    The pause image is not among them: each release has its own built in, the one that its archive brings.
    """
    config: dict[str, Any] = {"node-name": node.name, "node-ip": node.address}
    if join is not None:
        config |= {"server": f"https://{join.endpoint}", "token-file": TOKEN}
    if node.role not in SERVER_ROLES:
        return config
    # Servers refuse one that joins with another value of most of these, so all of them are the same everywhere.
    config |= {
        "cluster-cidr": cluster.pod_cidr,
        "service-cidr": cluster.service_cidr,
        "cluster-dns": cluster.dns_address,
        "cluster-domain": cluster.domain,
        "disable": [*DISABLED, *(name for name in ("coredns", "metrics-server") if name not in cluster.addons)],
        "disable-cloud-controller": True,
        "disable-helm-controller": True,
        "embedded-registry": True,
        "secrets-encryption": True,
        "write-kubeconfig-mode": "0600",
        "etcd-arg": ["heartbeat-interval=300", "election-timeout=3000"],
    }
    if node.serves_api:
        config["kube-scheduler-arg"] = [f"config={SCHEDULER}"]
    if cluster.endpoint:
        config["tls-san"] = [cluster.endpoint.rsplit(":", 1)[0]]
    if node.role == "control":
        config |= {
            "disable-apiserver": True,
            "disable-controller-manager": True,
            "disable-scheduler": True,
        }
    if not cluster.masters_work and node.role in TAINTED:
        config["node-taint"] = [f"node-role.kubernetes.io/{TAINTED[node.role]}=true:NoSchedule"]
    if join is None:
        config["cluster-init"] = True
    return config


def make_scheduler() -> Text:
    """The scheduler's settings; k3s makes the kubeconfig that they name when it starts."""
    return Text(make_yaml(make_scheduler_config(SCHEDULER_ACCESS, leaderElect=True)))


def make_registries() -> Text:
    """registries.yaml: nodes give images to each other; nobody outside is asked first."""
    return Text(make_yaml({"mirrors": {"*": {}}}))


def _make_unit(mode: str) -> Service:
    agent = mode == "agent"
    return Service(
        f"Kubernetes ({'worker' if agent else 'server'})",
        (f"/usr/bin/k3s {mode}" + (f" --config={AGENT_CONFIG}" if agent else ""),),
        before_start=("/usr/lib/cumulet/k3s-images",),
        after=("cumulet-kubernetes.service", "network-online.target"),
        wants=("network-online.target",),
        when=(f"PathExists={AGENT_CONFIG if agent else CONFIG}",),
        wanted_by="multi-user.target",
        weight=200,
        extra=("Delegate=yes", "KillMode=process", "LimitNPROC=infinity", "LimitCORE=infinity", "TasksMax=infinity"),
    )


# Either of the two: the settings of a server or of a worker.
_MEMBER = (f"PathExists=|{CONFIG}", f"PathExists=|{AGENT_CONFIG}")
_SETUP = Service(
    "Prepare a cluster of one node, once",
    (PREPARE,),
    kind="oneshot",
    after=("cumulet-node.service", "time-set.target"),
    when=(f"PathExists=!{CONFIG}",),
    wanted_by="multi-user.target",
)
_READY = Service(
    "Wait until this node is Ready",
    ("/usr/lib/cumulet/k3s-ready",),
    kind="oneshot",
    after=("cumulet-kubernetes.service", "k3s.service", "k3s-agent.service"),
    before=("cumulet-ready.target",),
    when=_MEMBER,
    wanted_by="cumulet-ready.target",
    extra=("StandardOutput=journal+console",),
)
_READY_TARGET = make_target("This node is Ready", when=_MEMBER, requires=("cumulet-ready.service",))
