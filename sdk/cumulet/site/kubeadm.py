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
from cumulet.kubernetes import (
    ADMIN,
    CONFIG,
    DISCOVERY,
    MADE,
    PKI,
    Cluster,
    Join,
    Node,
    Setup,
    make_addons,
    make_containerd_config,
    make_yaml,
)
from cumulet.kubernetes import kubeadm as nodes
from cumulet.site.actions import Action, Fetch, Late, Phase, Put, Run, Step, Vault, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.kubeadm_nodes import (
    API_UNITS,
    AUTHORITY,
    CLIENTS,
    DROP_TOKENS,
    ETCD_DATA,
    KUBECTL,
    LEARNER_STARTED,
    ONCE,
    READERS,
    RUNTIME_CONFIG,
    SERVERS_KUBECTL,
    find_members,
    find_seat,
    list_paths,
    make_certificates,
    make_clients,
    make_setup,
    units_of,
)
from cumulet.site.kubeadm_settle import make_settle
from cumulet.site.model import BALANCER, SiteDocument, SiteNode
from cumulet.site.parts import (
    UNKNOWN,
    is_changed,
    make_node,
    make_puts,
    run_etcd,
    start,
    take,
    wait_api,
    wait_etcd,
    wait_nodes,
)
from cumulet.site.tokens import make_token_manifest

__all__ = ["list_paths", "make_ahead", "make_phases"]


DNS_COPIES: Final = 2
REFUSALS: Final = (
    ("Unauthorized", "the token that lets it in has expired, or was taken away"),
    ("certificate signed by unknown authority", "whoever answers as the API server is not of this site"),
)
"""What kubeadm says when it is not let in -> what that means."""


def make_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """The phases from the cluster's start to the last worker; steps that the facts make needless are not there."""
    servers = _make_servers(site, facts)
    workers = [step for node in site.worker_nodes for step in _make_worker(site, node, facts)]
    runtimes = [step for node in site.servers for step in _make_runtime(node, facts)]
    first = Phase(
        "kubernetes", "start the cluster", tuple(step for step in servers if step.name.startswith("kubernetes"))
    )
    masters = tuple(step for step in servers if not step.name.startswith("kubernetes"))
    phases = [
        Phase("containers", "the container runtime", tuple(runtimes), site.at_once),
        first,
        Phase("masters", "masters, one at a time", masters),
        Phase("admission", "what lets workers in", tuple(_make_admission(site, facts))),
        Phase("workers", "workers, side by side", tuple(workers), site.at_once),
        Phase("settle", "every device is Ready", tuple(make_settle(site, facts))),
    ]
    return [phase for phase in phases if phase.steps]


def make_ahead(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """What is done on workers before there is a cluster to join."""
    return [
        step for node in site.worker_nodes for step in (*_make_runtime(node, facts), *_make_prepare(site, node, facts))
    ]


def _make_runtime(node: SiteNode, facts: SiteFacts) -> list[Step]:
    """The container runtime's settings, which depend on the device's kernel."""
    made = make_node(node, facts.hosts[node.name])
    text = make_containerd_config(made)
    if not is_changed(RUNTIME_CONFIG, text, facts.hosts[node.name]):
        return []
    why = f"control groups version {made.cgroup}{', restricted' if made.restricted else ''}"
    actions = (Put(RUNTIME_CONFIG, text.content), Run(("systemctl", "restart", "containerd.service")))
    return [Step("containers.settings", node.name, "settings of the container runtime", why, actions)]


def _make_servers(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """All servers in their order; each is Ready before the next is begun, and the first one gets the addons for it."""
    steps = _make_server(site, site.control, facts)
    if site.control.role == "single":
        return steps
    for node in site.masters:
        steps += _make_server(site, node, facts)
        if node == site.masters[0]:
            steps += _make_addons(site, facts, "masters")
            steps += [] if _joins(site.control, steps) else _make_awake(site.control, facts)
        waiting = [node] if node != site.masters[0] else [site.control, node]
        waiting = [each for each in waiting if _joins(each, steps) or not facts.nodes.get(each.name, UNKNOWN).ready]
        if waiting:
            title = f"{' and '.join(each.name for each in waiting)}: Ready"
            ready = (wait_nodes(waiting, KUBECTL),)
            steps.append(Step("masters.ready", site.masters[0].name, title, "not Ready when last seen", ready))
    return steps


def _joins(node: SiteNode, steps: list[Step]) -> bool:
    """Whether a server joins by these steps: what was known of it before says nothing then."""
    return any(step.name == "masters.serve" and step.host == node.name for step in steps)


def _make_awake(control: SiteNode, facts: SiteFacts) -> list[Step]:
    """The part of the control node that has nothing to do before there is an API server."""
    idle = [unit for unit in units_of(control) if unit not in facts.hosts[control.name].active]
    idle = [unit for unit in idle if unit != "cumulet-network"]
    why = f"not running: {', '.join(idle)}"
    return (
        [Step("masters.control", control.name, "start what asks the API server", why, (start(*idle),))] if idle else []
    )


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
    if node == site.control and node.role == "control":
        # The rest of it is started once there is an API server.
        idle = [unit for unit in idle if unit in ("etcd", "cumulet-balancer")]
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
        wipe = (Run(("systemctl", "stop", "etcd.service")), Run(("rm", "-rf", ETCD_DATA)))
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
    return steps


def _make_serve(node: SiteNode, why: str, prefix: str) -> Step:
    actions: list[Action] = []
    if node.role in ("single", "master"):
        # The others may not ask anything before it has made their rights, and would ask again only after two seconds.
        actions += [start("kube-apiserver"), wait_api(SERVERS_KUBECTL)]
    actions.append(start(*units_of(node)))
    return Step(f"{prefix}.serve", node.name, "start the API server and the rest", why, tuple(actions))


def make_manifests(site: SiteDocument) -> tuple[str, str, str]:
    """Everything that runs in the cluster by itself, as YAML; a note that says so, and the digest in the note."""
    dns = min(DNS_COPIES, sum(node.role != "control" for node in site.nodes))
    text = "---\n".join(each.content for each in make_addons(site.cluster, dns=dns).values())
    digest = sha256_text(text)[:16]
    note = make_yaml(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "cumulet-site", "namespace": "kube-system"},
            "data": {"addons": digest},
        }
    )
    return text, note, digest


def _make_addons(site: SiteDocument, facts: SiteFacts, prefix: str) -> list[Step]:
    manifests, note, digest = make_manifests(site)
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
        # Last: the note says that all of it has been done.
        Run((*kubectl, "apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-"), note),
    )
    return [Step(f"{prefix}.addons", first.name, "rights, DNS and metrics", "not those of this version", actions)]


def _make_admission(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    steps = []
    joining = [node.name for node in site.worker_nodes if not facts.hosts[node.name].made]
    if joining:
        manifest = Late("a new token", lambda vault: make_token_manifest(vault["token"], int(vault["token-life"])))
        # kubeadm refuses the name of a node that was half-way in and is Ready.
        known = [name for name in joining if name in facts.nodes]
        forget = (Run((*KUBECTL, "delete", "node", "--ignore-not-found", *known)),) if known else ()
        actions: tuple[Action, ...] = (
            *forget,
            Run((*KUBECTL, "apply", "-f", "-"), manifest),
            Fetch(f"{PKI}/ca.crt", "pki/ca.crt"),
            *make_clients(),
        )
        why = f"not in yet: {', '.join(joining)}"
        steps.append(Step("admission.token", site.masters[0].name, "a token that lets workers in", why, actions))
    return steps


def _make_prepare(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    if facts.hosts[node.name].made:
        return []
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
    )
    return [Step("workers.prepare", node.name, "its settings", "is not in yet", actions)]


def _make_worker(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host = facts.hosts[node.name]
    if host.made:
        return _make_kept(site, node, facts)
    made = make_node(node, host)
    actions: tuple[Action, ...] = (
        *(Put(path, _make_late_join(site.cluster, made, path), 0o600) for path in (f"{CONFIG}/join.yaml", DISCOVERY)),
        *(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS),
        Run(("systemctl", "restart", "cumulet-network.service", "cumulet-balancer.service")),
        Run(("kubeadm", "join", "--config", f"{CONFIG}/join.yaml"), seconds=600, explain=REFUSALS),
        Run(("sh", "-c", f"rm -f {CONFIG}/join.yaml && touch {MADE} && sync {MADE} && systemctl reset-failed")),
        start(*units_of(node)),
    )
    return [Step("workers.join", node.name, "join", "is not in yet", actions)]


def _make_late_join(cluster: Cluster, node: Node, path: str) -> Late:
    def make(vault: Vault) -> str:
        join = Join(BALANCER, vault["token"], vault["pki/ca.crt"])
        return nodes.make_node_setup(cluster, node, [], join).files[path].content

    return Late(f"{Path(path).name}: where to join, with which token", make)
