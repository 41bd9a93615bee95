"""The life of a k3s site after its bring-up: leaving, snapshots, renewing. Pure; k3s does the work itself."""

from __future__ import annotations

from collections.abc import Sequence

from cumulet.site.actions import Action, Late, Phase, Plan, Put, Run, Step
from cumulet.site.facts import SiteFacts
from cumulet.site.k3s import ADMISSION, HAS_ETCD, KUBECTL, leave_etcd, make_waits, unit_of
from cumulet.site.kubeadm_life import SNAPSHOT, make_reset
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import wait_api, wait_nodes

AUTHORITY_FOLDER = "/var/lib/rancher/k3s/server"
AUTHORITY = ("token",)
"""The token encrypts what a snapshot holds of the authority, so that one is worth nothing without the other."""
__all__ = [
    "AUTHORITY", "KUBECTL", "SNAPSHOT", "make_forget", "make_reset", "make_restart", "make_restore", "make_rotation",
    "make_snapshot",
]  # fmt: skip
FOLDER = "/var/lib/cumulet/site/snapshots"


def make_forget(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """Take a node out of etcd, by k3s itself, and then out of the cluster."""
    if node.name not in facts.nodes:
        return []
    master = next(each for each in site.masters if each.name != node.name and each.name in facts.hosts)
    actions: list[Action] = []
    if node.role != "worker":
        actions += leave_etcd(node)
    actions.append(Run((*KUBECTL, "delete", "node", node.name, "--ignore-not-found")))
    leave = Step("leave.node", master.name, f"take {node.name} out of the cluster", "it leaves", tuple(actions))
    if node.name not in facts.hosts:
        return [leave]
    # Stopped before, or it would make itself known again.
    halt = Run(("systemctl", "stop", f"{unit_of(node)}.service"), seconds=180)
    return [Step("leave.stop", node.name, "stop k3s", "it leaves", (halt,)), leave]


def make_snapshot(seat: SiteNode) -> Step:
    """Save etcd's content into a file on a device that has a member."""
    save = ("k3s", "etcd-snapshot", "save", f"--dir={FOLDER}", "--name=site")
    move = f"mv {FOLDER}/site-* {SNAPSHOT} && rm -rf {FOLDER}"
    actions = (Run(("rm", "-rf", FOLDER)), Run(save, seconds=300), Run(("sh", "-c", move)))
    return Step("snapshot.save", seat.name, "save what etcd keeps", "asked for", actions)


def make_restore(site: SiteDocument, facts: SiteFacts, digest: str) -> Plan:
    """Begin again from a snapshot on the control node; the masters then join it with empty disks."""
    stop = tuple(
        Step(
            "restore.stop",
            node.name,
            "stop k3s",
            "a snapshot is restored",
            (Run(("systemctl", "stop", "k3s.service")),),
        )
        for node in site.servers
    )
    control = site.control
    words = ("k3s", "server", "--cluster-reset", f"--cluster-reset-restore-path={SNAPSHOT}")
    fill: tuple[Action, ...] = (
        Put(ADMISSION, Late("the server token", lambda vault: vault["pki/token"]), 0o600),
        Run((*words, f"--token-file={ADMISSION}"), seconds=600),
        Run(("systemctl", "start", "--no-block", "k3s.service")),
    )
    # A server that answers has been let in and promoted; the next one's turn is not before that.
    wipe = tuple(
        Step(
            "restore.wipe",
            node.name,
            "clear the old data, and join again",
            "a snapshot is restored",
            (
                Run(("rm", "-rf", "/var/lib/rancher/k3s/server/db")),
                Run(("systemctl", "start", "--no-block", "k3s.service")),
                wait_api(KUBECTL),
                *make_waits(node),
            ),
        )
        for node in site.servers[1:]
    )
    ready = Step(
        "restore.ready",
        site.masters[0].name,
        "every server is Ready",
        "afterwards",
        (wait_nodes(list(site.servers), KUBECTL, 900),),
    )
    data = Step("restore.data", control.name, "data from the snapshot", "a snapshot is restored", fill)
    return (
        Phase("stop", "stop all servers", stop, len(stop)),
        Phase("restore", "data from the snapshot", (data, *wipe, ready)),
    )


def make_restart(site: SiteDocument, node: SiteNode, targets: Sequence[str]) -> tuple[Action, ...]:
    """Let a node begin to run another k3s, and wait until it serves again; what runs in containers goes on."""
    restart = Run(("systemctl", "restart", f"{unit_of(node)}.service"), seconds=600)
    if node.role in ("single", "master"):
        return (restart, wait_api(KUBECTL))
    return (restart, HAS_ETCD) if node.role == "control" else (restart,)


def make_rotation(site: SiteDocument) -> Plan:
    """New certificates for every server, one device at a time; k3s renews those of agents when they start."""
    steps = []
    for node in site.nodes:
        renew = () if node.role == "worker" else (Run(("k3s", "certificate", "rotate"), seconds=300),)
        actions = (
            Run(("systemctl", "stop", f"{unit_of(node)}.service"), seconds=180),
            *renew,
            *make_restart(site, node, ()),
        )
        steps.append(Step("rotate.node", node.name, "new certificates", "asked for", actions))
        steps.append(
            Step(
                "rotate.ready",
                site.masters[0].name,
                f"{node.name} is Ready",
                "before the next one",
                (wait_nodes([node], KUBECTL, 900),),
            )
        )
    return (Phase("rotate", "one device at a time", tuple(steps)),)
