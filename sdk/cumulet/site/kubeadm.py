"""Bringing up upstream Kubernetes: what each device is given and what it runs, from facts. Pure.

The control node makes the cluster's authority and the first etcd member. A master gets
the authority, makes its own certificates with it, becomes a learner of etcd, then a
voter, and only then serves; a control node that has lost its disk comes back the same
way. Workers join with a token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cumulet.core.errors import TargetError
from cumulet.core.files import sha256_text
from cumulet.kubernetes import Cluster, Join, Node, Setup
from cumulet.kubernetes import kubeadm as nodes
from cumulet.kubernetes.addons import make_addons
from cumulet.kubernetes.kubeadm_documents import make_containerd_config, make_taints
from cumulet.kubernetes.layout import ADMIN, CONFIG, DISCOVERY, MADE, PKI
from cumulet.kubernetes.render import make_yaml
from cumulet.site.actions import Action, Fetch, Late, Phase, Put, Run, Step, Vault, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.model import BALANCER, SiteDocument, SiteNode
from cumulet.site.parts import (
    ROLE_LABELS,
    UNKNOWN,
    is_changed,
    make_node,
    make_puts,
    run_etcd,
    start,
    take,
    wait_etcd,
    wait_nodes,
)
from cumulet.site.tokens import make_token_manifest

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
    "kube-scheduler.env": "kube-scheduler", "masquerade.nft": "cumulet-network", "network.env": "cumulet-network",
}  # fmt: skip
"""File name -> the unit that reads it."""
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


def make_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """The phases from the cluster's start to the last worker; steps that the facts make needless are not there."""
    servers = [step for node in site.servers for step in _make_server(site, node, facts)]
    workers = [step for node in site.nodes if node.role == "worker" for step in _make_worker(site, node, facts)]
    first = Phase(
        "kubernetes", "start the cluster", tuple(step for step in servers if step.name.startswith("kubernetes"))
    )
    masters = tuple(step for step in servers if not step.name.startswith("kubernetes"))
    phases = [
        Phase("containers", "the container runtime", tuple(_make_runtime(site, facts)), site.at_once),
        first,
        Phase("masters", "masters, one at a time", masters),
        Phase("admission", "what lets workers in", tuple(_make_admission(site, facts))),
        Phase("workers", "workers, side by side", tuple(workers), site.at_once),
        Phase("settle", "every device is Ready", tuple(_make_settle(site, facts))),
    ]
    return [phase for phase in phases if phase.steps]


def list_paths(site: SiteDocument, node: SiteNode) -> list[str]:
    """The files of a device whose digests a plan looks at."""
    setup = nodes.make_node_setup(site.cluster, Node(node.name, node.role, node.address), [], None)
    return [*setup.files, *CLIENTS]


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


def _make_runtime(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """The container runtime's settings, which depend on the device's kernel."""
    steps = []
    for node in site.nodes:
        made = make_node(node, facts.hosts[node.name])
        text = make_containerd_config(made)
        if node.role != "single" and is_changed(RUNTIME_CONFIG, text, facts.hosts[node.name]):
            why = f"control groups version {made.cgroup}{', restricted' if made.restricted else ''}"
            actions = (Put(RUNTIME_CONFIG, text.content), Run(("systemctl", "restart", "containerd.service")))
            steps.append(Step("containers.settings", node.name, "settings of the container runtime", why, actions))
    return steps


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


def _make_server(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host = facts.hosts[node.name]
    member = facts.member(node.name)
    if host.made and member is not None and not member.learner:
        return _make_kept(site, node, facts)
    if node == site.control and not facts.members:
        return _make_first(site, node, facts)
    return _make_joiner(site, node, facts)


def _make_kept(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """A device that is in: files that are not as they should be, and units that do not run."""
    host, setup = facts.hosts[node.name], make_setup(site, node, facts)
    prefix = "kubernetes" if node == site.control else "workers" if node.role == "worker" else "masters"
    changed = {path: text for path, text in setup.files.items() if path not in ONCE and is_changed(path, text, host)}
    steps = []
    if changed:
        actions: list[Action] = make_puts(Setup(changed))
        for unit in sorted({READERS[Path(path).name] for path in changed if Path(path).name in READERS}):
            verb = "reload-or-restart" if unit == "cumulet-balancer" else "restart"
            actions.append(Run(("systemctl", verb, f"{unit}.service"), seconds=300))
        names = ", ".join(sorted(Path(path).name for path in changed))
        steps.append(Step(f"{prefix}.settings", node.name, "settings", f"changed: {names}", tuple(actions)))
    idle = [unit for unit in units_of(node) if unit not in host.active and unit != "cumulet-network"]
    if idle:
        why = f"not running: {', '.join(idle)}"
        steps.append(Step(f"{prefix}.start", node.name, "start what is not running", why, (start(*idle),)))
    return steps


def _make_first(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    others = [each.name for each in site.servers[1:] if facts.hosts[each.name].etcd_data]
    if others and not facts.hosts[node.name].etcd_data:
        # A new authority here would cut off everything that the others keep.
        raise TargetError(
            f"{', '.join(others)}: has data of a cluster whose etcd does not answer, and {node.name} has none",
            hint="start the devices that keep it, or clear them: cumulet site reset",
        )
    why = "its etcd does not run" if facts.hosts[node.name].made else "there is no cluster yet"
    actions: list[Action] = [
        *make_puts(make_setup(site, node, facts)),
        *make_certificates(node),
        *(make_clients() if node.role != "single" else ()),
        *(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS if node.role != "single"),
        Run(("sh", "-c", f"sync -f {PKI} && touch {MADE} && sync {MADE} && systemctl reset-failed")),
        # Nothing else before there is an API server: each would come back later and later to look for one.
        start("cumulet-network", "cumulet-balancer", "etcd")
        if node.role == "control"
        else start("cumulet-network", "etcd"),
        wait_etcd("etcd answers", "healthy"),
    ]
    title = "the cluster's authority and the first member of etcd"
    steps = [Step("kubernetes.control", node.name, title, why, tuple(actions))]
    if node.role == "single":
        steps += [_make_serve(node, why, "kubernetes"), *_make_addons(site, facts, "kubernetes")]
    return steps


def _make_joiner(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    seat = find_seat(site, facts) or site.control
    peer = f"https://{node.address}:2380"
    half = any(each.address == node.address for each in facts.members)
    why = "is half-way in" if half else "is not in yet"
    names = [each.name for each in find_members(site, node, facts)]
    fetch = (*(Fetch(f"{PKI}/{name}", f"pki/{name}") for name in AUTHORITY), *make_clients())
    prepare: list[Action] = [
        Run(("systemctl", "stop", *(f"{unit}.service" for unit in ("kubelet", *API_UNITS, "etcd")))),
        *(Put(f"{PKI}/{name}", take(f"pki/{name}"), mode) for name, mode in AUTHORITY.items()),
        *(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS),
        *make_puts(make_setup(site, node, facts)),
        *make_certificates(node),
        Run(("sync", "-f", PKI)),
    ]
    steps = [Step("masters.authority", seat.name, "read the cluster's authority, to hand it on", why, tuple(fetch))]
    host = facts.hosts[node.name]
    if half and not host.etcd_data and facts.member(node.name) is not None:
        title = f"take the member that {node.name} was out of etcd"
        steps.append(
            Step("masters.forget", seat.name, title, "its disk has no data of it", (run_etcd("remove", peer),))
        )
    if host.etcd_data and not half:
        wipe = (Run(("systemctl", "stop", "etcd.service")), Run(("rm", "-rf", "/var/lib/etcd/member-data")))
        steps.append(Step("masters.wipe", node.name, "remove data of another cluster", "etcd does not know it", wipe))
    begin = (
        Run(("sh", "-c", f"touch {MADE} && sync {MADE} && systemctl reset-failed")),
        start("cumulet-network", "cumulet-balancer", "etcd"),
        Wait("etcd has started", ("sh", "-c", LEARNER_STARTED), 300),
    )
    promote = (
        wait_etcd(f"{node.name} is promoted", "promote", peer, seconds=300),
        wait_etcd("the members are those that there should be", "whole", *names),
    )
    steps += [
        Step("masters.prepare", node.name, "the authority, and certificates made with it", why, tuple(prepare)),
        Step(
            "masters.add", seat.name, f"{node.name} becomes a learner of etcd", why, (run_etcd("add", node.name, peer),)
        ),
        Step("masters.etcd", node.name, "start etcd", why, begin),
        Step("masters.promote", seat.name, f"{node.name} becomes a voter of etcd", why, promote),
        _make_serve(node, why, "masters"),
    ]
    if node == site.masters[0]:
        steps += _make_addons(site, facts, "masters")
        idle = [unit for unit in units_of(site.control) if unit not in facts.hosts[site.control.name].active]
        if idle:
            rest = (start(*idle),)
            steps.append(Step("masters.control", site.control.name, "start what asks the API server", why, rest))
    waiting = [node] if node != site.masters[0] else [site.control, node]
    ready = wait_nodes([each for each in waiting if each in site.servers], KUBECTL)
    return [*steps, Step("masters.ready", site.masters[0].name, f"{node.name} is Ready", why, (ready,))]


def _make_serve(node: SiteNode, why: str, prefix: str) -> Step:
    actions: list[Action] = []
    if node.role in ("single", "master"):
        actions += [start(*API_UNITS), Wait("its API server answers", (*SERVERS_KUBECTL, "get", "--raw=/readyz"), 300)]
    actions.append(start(*units_of(node)))
    return Step(f"{prefix}.serve", node.name, "start the API server and the rest", why, tuple(actions))


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
    words = ("kubeadm", "kubeconfig", "user", "--config", f"{CONFIG}/init.yaml", f"--validity-period={VALIDITY}")
    return tuple(Run((*words, f"--client-name={who}"), into=f"client{path}") for path, who in CLIENTS.items())


def make_manifests(site: SiteDocument) -> tuple[str, str]:
    """Everything that runs in the cluster by itself, as YAML, and its digest."""
    text = "---\n".join(each.content for each in make_addons(site.cluster).values())
    digest = sha256_text(text)[:16]
    note = make_yaml(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cumulet-site", "namespace": "kube-system"},
            "data": {"addons": digest},
        }
    )
    return f"{text}---\n{note}", digest


def _make_addons(site: SiteDocument, facts: SiteFacts, prefix: str) -> list[Step]:
    manifests, digest = make_manifests(site)
    if facts.addons == digest:
        return []
    first = site.masters[0]
    kubectl = ("kubectl", f"--kubeconfig={ADMIN}", "--server=https://127.0.0.1:6443")
    phase = ("kubeadm", "init", "phase")
    actions: tuple[Action, ...] = (
        Wait(
            "rights and addons are taken",
            (*kubectl, "apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"),
            300,
            manifests,
        ),
        Run((*phase, "upload-config", "all", "--config", f"{CONFIG}/init.yaml"), seconds=300),
        Run((*phase, "bootstrap-token", "--config", f"{CONFIG}/init.yaml", "--skip-token-print"), seconds=300),
        Run(DROP_TOKENS),
    )
    return [Step(f"{prefix}.addons", first.name, "rights, DNS and metrics", "not those of this version", actions)]


def _make_admission(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    steps = []
    joined = all(facts.hosts[node.name].made for node in site.masters)
    if joined:
        steps += _make_addons(site, facts, "admission")
    joining = [node.name for node in site.nodes if node.role == "worker" and not facts.hosts[node.name].made]
    if joining:
        manifest = Late("a new token", lambda vault: make_token_manifest(vault["token"], int(vault["token-life"])))
        actions = (
            Run((*KUBECTL, "apply", "-f", "-"), manifest),
            Fetch(f"{PKI}/ca.crt", "pki/ca.crt"),
            *make_clients(),
        )
        why = f"not in yet: {', '.join(joining)}"
        steps.append(Step("admission.token", site.masters[0].name, "a token that lets workers in", why, actions))
    return steps


def _make_worker(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host = facts.hosts[node.name]
    if host.made:
        return _make_kept(site, node, facts)
    made = make_node(node, host)
    # What an earlier try has left would be taken for a node that is in.
    left = (
        "/etc/kubernetes/bootstrap-kubelet.conf",
        "/etc/kubernetes/kubelet.conf",
        f"{PKI}/ca.crt",
        "/var/lib/kubelet/pki",
    )
    actions: tuple[Action, ...] = (
        Run(("systemctl", "stop", "kubelet.service")),
        Run(("rm", "-rf", *left)),
        *make_puts(make_setup(site, node, facts)),
        *(Put(path, _make_late_join(site.cluster, made, path), 0o600) for path in (f"{CONFIG}/join.yaml", DISCOVERY)),
        *(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS),
        Run(("systemctl", "restart", "cumulet-network.service", "cumulet-balancer.service")),
        Run(("kubeadm", "join", "--config", f"{CONFIG}/join.yaml"), seconds=600),
        Run(("sh", "-c", f"rm -f {CONFIG}/join.yaml && touch {MADE} && sync {MADE} && systemctl reset-failed")),
        start(*units_of(node)),
    )
    return [Step("workers.join", node.name, "join", "is not in yet", actions)]


def _make_late_join(cluster: Cluster, node: Node, path: str) -> Late:
    def make(vault: Vault) -> str:
        join = Join(BALANCER, vault["token"], vault["pki/ca.crt"])
        return nodes.make_node_setup(cluster, node, [], join).files[path].content

    return Late(f"{Path(path).name}: where to join, with which token", make)


def _make_settle(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    first = site.masters[0]
    waiting = [node for node in site.nodes if not facts.nodes.get(node.name, UNKNOWN).ready]
    steps = []
    if waiting:
        why = f"not Ready when last seen: {', '.join(node.name for node in waiting)}"
        steps.append(Step("settle.ready", first.name, "every device is Ready", why, (wait_nodes(waiting, KUBECTL),)))
    marks = [action for node in site.nodes for action in _make_marks(site, node, facts)]
    if marks:
        steps.append(
            Step("settle.roles", first.name, "roles as labels and taints", "not as they should be", tuple(marks))
        )
    if any(not facts.hosts[node.name].made for node in site.nodes if node.role == "worker"):
        steps.append(Step("settle.token", first.name, "take the token away", "all workers are in", (Run(DROP_TOKENS),)))
    return steps


def _make_marks(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Action]:
    """What tells the API server of a node's role; a kubelet says it once, when it registers, and roles change."""
    known = facts.nodes.get(node.name, UNKNOWN)
    label = ROLE_LABELS.get(node.role, "")
    words = [f"{each}-" for each in set(ROLE_LABELS.values()) & known.labels - {label}]
    if label and label not in known.labels:
        words.append(f"{label}=")
    actions: list[Action] = []
    if words:
        actions.append(Run((*KUBECTL, "label", "--overwrite", "node", node.name, *sorted(words))))
    wanted = {taint["key"] for taint in make_taints(site.cluster, make_node(node, facts.hosts[node.name]))}
    have = set(ROLE_LABELS.values()) & known.taints
    # A node that is not known yet registers with its own.
    words = [f"{each}-" for each in have - wanted]
    words += [f"{each}=:NoSchedule" for each in wanted - have] if known.name else []
    if words:
        actions.append(Run((*KUBECTL, "taint", "--overwrite", "node", node.name, *sorted(words))))
    return actions
