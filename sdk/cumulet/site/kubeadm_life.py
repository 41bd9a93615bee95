"""The life of a site of upstream Kubernetes after its bring-up: leaving, restoring, renewing, upgrading. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cumulet.kubernetes import CONFIG, MADE, PKI
from cumulet.site import kubeadm_nodes as kubeadm
from cumulet.site.actions import Action, Phase, Plan, Put, Run, Step
from cumulet.site.facts import SiteFacts
from cumulet.site.kubeadm_nodes import API_UNITS, AUTHORITY, CLIENTS, ETCD_DATA, KUBECTL, SERVERS_KUBECTL, units_of
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import (
    make_puts,
    read_script,
    run_etcd,
    start,
    take,
    wait_api,
    wait_etcd,
    wait_nodes,
)

AUTHORITY_FOLDER = PKI
SNAPSHOT = "/var/lib/cumulet/site/snapshot.db"


def make_forget(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """Take a node out of etcd, and then out of the cluster."""
    steps = []
    if any(each.address == node.address for each in facts.members):
        seat = next(each for each in site.servers if each.name != node.name and facts.member(each.name) is not None)
        remove = (run_etcd("remove", f"https://{node.address}:2380"),)
        steps.append(Step("leave.etcd", seat.name, f"take {node.name} out of etcd", "it leaves", remove))
    if node.name in facts.nodes:
        master = next(each for each in site.masters if each.name != node.name and each.name in facts.hosts)
        delete = (Run((*KUBECTL, "delete", "node", node.name, "--ignore-not-found")),)
        steps.append(Step("leave.node", master.name, f"take {node.name} out of the cluster", "it leaves", delete))
    return steps


def make_snapshot(seat: SiteNode) -> Step:
    """Save etcd's content into a file on a device that has a member."""
    return Step("snapshot.save", seat.name, "save what etcd keeps", "asked for", (run_etcd("save", SNAPSHOT),))


def make_restore(site: SiteDocument, facts: SiteFacts, digest: str) -> Plan:
    """Begin again from a snapshot, on all servers at once. The vault has the authority; the file lies on each server.

    Every member is new, with a new cluster token, so that none can meet one of before.
    """
    why = "a snapshot is restored"
    units = [f"{unit}.service" for unit in ("kubelet", *API_UNITS, "etcd")]
    halt, begin = Run(("systemctl", "stop", *units)), start("cumulet-network", "cumulet-balancer", "etcd")
    servers, width = site.servers, len(site.servers)
    stop = tuple(Step("restore.stop", node.name, "stop etcd and what asks it", why, (halt,)) for node in servers)
    # One after the other: the kubeconfigs of programs go through the same place in the vault.
    fill = tuple(
        Step("restore.data", node.name, "etcd's data from the snapshot", why, _make_refill(site, node, facts, digest))
        for node in servers
    )
    etcd = tuple(Step("restore.etcd", node.name, "start etcd", why, (begin,)) for node in servers)
    serve = tuple(Step("restore.serve", node.name, "start the rest", why, _make_service(node)) for node in servers)
    return (
        Phase("stop", "stop all servers", stop, width),
        Phase("restore", "data from the snapshot", fill),
        Phase("etcd", "start etcd, all members together", etcd, width),
        Phase("serve", "start the API servers", serve, width),
    )


def _make_refill(site: SiteDocument, node: SiteNode, facts: SiteFacts, digest: str) -> tuple[Action, ...]:
    """The authority, certificates made with it, and a new member's data."""
    cluster = ",".join(f"{each.name}=https://{each.address}:2380" for each in site.servers)
    words = (
        "etcdutl", "snapshot", "restore", SNAPSHOT, "--name", node.name, "--initial-cluster", cluster,
        "--initial-cluster-token", f"{site.site}-{digest[:12]}", "--initial-advertise-peer-urls",
        f"https://{node.address}:2380", "--data-dir", ETCD_DATA, "--bump-revision", "1000000000", "--mark-compacted",
    )  # fmt: skip
    clients: tuple[Action, ...] = ()
    if node.role != "single":
        clients = (*kubeadm.make_clients(), *(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS))
    return (
        *(Put(f"{PKI}/{name}", take(f"pki/{name}"), mode) for name, mode in AUTHORITY.items()),
        *make_puts(kubeadm.make_setup(site, node, facts)),
        *kubeadm.make_certificates(node),
        *clients,
        Run(("rm", "-rf", ETCD_DATA)),
        Run(words),
        Run(("rm", "-f", SNAPSHOT)),
        Run(("sh", "-c", f"sync -f {ETCD_DATA} && touch {MADE} && sync {MADE} && systemctl reset-failed")),
    )


def _make_service(node: SiteNode) -> tuple[Action, ...]:
    actions: list[Action] = [wait_etcd("etcd answers", "healthy")]
    if node.role in ("single", "master"):
        actions.append(start("kube-apiserver"))
        actions.append(wait_api(SERVERS_KUBECTL))
    return (*actions, start(*units_of(node)))


def make_rotation(site: SiteDocument) -> Plan:
    """New certificates for every server, one device at a time; new kubeconfigs for programs; no token stays."""
    phases = []
    for node in site.servers:
        restart = ("etcd", *(API_UNITS if node.role != "control" else ()))
        names = [each.name for each in site.servers]
        actions: list[Action] = [
            Run(("kubeadm", "certs", "renew", "all", "--config", f"{CONFIG}/init.yaml"), seconds=300),
            *(Run(("systemctl", "restart", f"{unit}.service"), seconds=300) for unit in restart),
            wait_etcd("all members of etcd are there", "whole", *names),
        ]
        if node.role != "control":
            actions.append(wait_api(SERVERS_KUBECTL))
        actions.append(Run(("systemctl", "restart", "kubelet.service"), seconds=300))
        phases.append(Step("rotate.server", node.name, "new certificates", "asked for", tuple(actions)))
    clients = []
    if site.control.role != "single":
        clients = [Step("rotate.clients", site.control.name, "new kubeconfigs", "asked for", kubeadm.make_clients())]
        for node in site.nodes:
            renew: list[Action] = [*(Put(path, take(f"client{path}"), 0o600) for path in CLIENTS)]
            renew.append(Run(("systemctl", "restart", "kube-proxy.service", "cumulet-flannel.service"), seconds=300))
            clients.append(
                Step(
                    "rotate.programs", node.name, "kube-proxy and flannel take them", "new ones are there", tuple(renew)
                )
            )
    drop = Step(
        "rotate.tokens", site.masters[0].name, "take every token away", "asked for", (Run(kubeadm.DROP_TOKENS),)
    )
    ready = Step(
        "rotate.ready",
        site.masters[0].name,
        "every device is Ready",
        "afterwards",
        (wait_nodes(list(site.nodes), KUBECTL),),
    )
    steps = [Phase("servers", "servers, one at a time", tuple(phases)), Phase("clients", "programs", tuple(clients))]
    return tuple(phase for phase in (*steps, Phase("settle", "settle", (drop, ready))) if phase.steps)


def make_restart(site: SiteDocument, node: SiteNode, targets: Sequence[str]) -> tuple[Action, ...]:
    """Let a node begin to run the programs at `targets`, paths on the device, and wait until it serves again."""
    running = [unit for unit in units_of(node) if unit != "cumulet-network"]
    if any(Path(target).name == "containerd" for target in targets):
        running.insert(0, "containerd")
    actions: list[Action] = [Run(("systemctl", "restart", *(f"{unit}.service" for unit in running)), seconds=600)]
    if node.role != "worker":
        actions.append(wait_etcd("all members of etcd are there", "whole", *(each.name for each in site.servers)))
    if node.role in ("single", "master"):
        actions.append(wait_api(SERVERS_KUBECTL))
    return tuple(actions)


def make_reset(node: SiteNode) -> Step:
    """Make a device as it was before it joined."""
    run = Run(("sh", "-s"), read_script("reset.sh"), 300)
    return Step("reset.device", node.name, "make it as it was before it joined", "asked for", (run,))
