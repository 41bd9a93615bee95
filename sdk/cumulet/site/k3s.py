"""Bringing up k3s: an etcd-only control node first, masters one at a time, then agents. Pure.

A joining master is in only when the API server calls its node Ready and its etcd member
a voter; the next one is not begun before that.
"""

from __future__ import annotations

from typing import Final

from cumulet.kubernetes import Join, Setup
from cumulet.kubernetes import k3s as nodes
from cumulet.site.actions import Action, Fetch, Late, Phase, Put, Run, Step, Vault, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import UNKNOWN, make_node, wait_nodes

KUBECTL: Final = ("k3s", "kubectl", "--kubeconfig=/etc/rancher/k3s/k3s.yaml")
ADMISSION: Final = "/var/lib/rancher/k3s/server/token"
DATA: Final = "/var/lib/rancher/k3s/server/db/etcd"
PORT: Final = 6443
VOTER: Final = '{.status.conditions[?(@.type=="EtcdIsVoter")].status}'


def make_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """The phases from the first server to the last worker."""
    control, masters = site.control, site.servers[1:]
    workers = [node for node in site.nodes if node.role == "worker"]
    joining = [node for node in (*masters, *workers) if not is_in(node, facts)]
    token = [_make_token(control, joining)] if joining else []
    phases = [
        Phase("kubernetes", "start the cluster", (*_make_first(site, control, facts), *token)),
        Phase("masters", "masters, one at a time", tuple(s for n in masters for s in _make_master(site, n, facts))),
        Phase(
            "workers",
            "workers, side by side",
            tuple(s for n in workers for s in _make_agent(site, n, facts)),
            site.at_once,
        ),
        Phase("settle", "every device is Ready", tuple(_make_settle(site, facts))),
    ]
    return [phase for phase in phases if phase.steps]


def list_paths(site: SiteDocument, node: SiteNode) -> list[str]:
    """The files of a device whose digests a plan looks at."""
    return [nodes.CONFIG, nodes.AGENT_CONFIG, nodes.REGISTRIES]


def is_in(node: SiteNode, facts: SiteFacts) -> bool:
    """Whether a device is part of the cluster: known to the API server, and a voter if it keeps etcd."""
    known = facts.nodes.get(node.name, UNKNOWN)
    if node.role == "worker":
        return known.name != ""
    return known.name != "" and known.voter is not False


def _unit(node: SiteNode) -> str:
    return "k3s-agent" if node.role == "worker" else "k3s"


def _make_setup(site: SiteDocument, node: SiteNode, facts: SiteFacts, join: Join | None) -> Setup:
    return nodes.make_node_setup(site.cluster, make_node(node, facts.hosts[node.name]), [], join)


def _make_first(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """The server that starts the cluster; alone it has no API server yet, so only its etcd is waited for."""
    host = facts.hosts[node.name]
    if "k3s" in host.active:
        return []
    why = "its k3s does not run" if facts.nodes else "there is no cluster yet"
    setup = _make_setup(site, node, facts, None)
    actions: list[Action] = [
        *(Put(path, text.content, text.mode) for path, text in sorted(setup.files.items())),
        Run(("systemctl", "start", "--no-block", "k3s.service")),
        Wait("its etcd has data and a token", ("sh", "-c", f"test -s {ADMISSION} && test -d {DATA}/member"), 300),
    ]
    if node.role == "single":
        actions.append(Wait("its API server answers", (*KUBECTL, "get", "--raw=/readyz"), 300))
    return [Step("kubernetes.control", node.name, "the first member of etcd", why, tuple(actions))]


def _make_token(control: SiteNode, joining: list[SiteNode]) -> Step:
    why = f"not in yet: {', '.join(node.name for node in joining)}"
    return Step(
        "kubernetes.token",
        control.name,
        "read the token that lets servers and agents in",
        why,
        (Fetch(ADMISSION, "token"),),
    )


def _make_joiner(site: SiteDocument, node: SiteNode, facts: SiteFacts, server: SiteNode) -> tuple[Action, ...]:
    made = make_node(node, facts.hosts[node.name])
    plain = _make_setup(site, node, facts, Join(f"{server.address}:{PORT}", ""))

    def make(path: str) -> Late:
        def fill(vault: Vault) -> str:
            join = Join(f"{server.address}:{PORT}", vault["token"].strip())
            return nodes.make_node_setup(site.cluster, made, [], join).files[path].content

        return Late("settings: where to join, with which token", fill)

    secret = nodes.AGENT_CONFIG if node.role == "worker" else nodes.CONFIG
    return (
        *(Put(path, text.content, text.mode) for path, text in sorted(plain.files.items()) if path != secret),
        Put(secret, make(secret), 0o600),
        Run(("systemctl", "reset-failed")),
        Run(("systemctl", "start", "--no-block", f"{_unit(node)}.service")),
    )


def _make_master(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host, known = facts.hosts[node.name], facts.nodes.get(node.name, UNKNOWN)
    if is_in(node, facts):
        return [] if "k3s" in host.active else [_make_start(node)]
    steps = []
    if known.name:
        # Known but no voter: out of etcd first, by k3s itself, and only then is its disk cleared.
        steps += _make_removal(site, node)
    why = "is half-way in" if known.name or "k3s" in host.active else "is not in yet"
    # Asked on the master itself: until the first one is in, nobody else has an API server.
    voter = ("sh", "-c", f"test \"$({' '.join(KUBECTL)} get node {node.name} -o jsonpath='{VOTER}')\" = True")
    actions = (
        *_make_joiner(site, node, facts, site.control),
        wait_nodes([node], KUBECTL, 900),
        Wait(f"{node.name} is a voter of etcd", voter, 300),
    )
    return [*steps, Step("masters.join", node.name, "join as a server", why, actions)]


def _make_removal(site: SiteDocument, node: SiteNode) -> list[Step]:
    other = next(each for each in site.masters if each != node)
    mark = "{.metadata.annotations.etcd\\.k3s\\.cattle\\.io/removed-node-name}"
    gone = f"test -n \"$({' '.join(KUBECTL)} get node {node.name} -o jsonpath='{mark}')\""
    forget = (
        Run((*KUBECTL, "annotate", "--overwrite", "node", node.name, "etcd.k3s.cattle.io/remove=true")),
        Wait(f"etcd has let {node.name} go", ("sh", "-c", gone), 120),
        Run((*KUBECTL, "delete", "node", node.name)),
    )
    wipe = (Run(("systemctl", "stop", "k3s.service")), Run(("rm", "-rf", "/var/lib/rancher/k3s/server/db")))
    return [
        Step("masters.forget", other.name, f"take {node.name} out of etcd", "is half-way in", forget),
        Step("masters.wipe", node.name, "clear what its member has kept", "is out of etcd", wipe),
    ]


def _make_start(node: SiteNode) -> Step:
    run = Run(("systemctl", "start", "--no-block", f"{_unit(node)}.service"))
    return Step("masters.start", node.name, "start k3s", "does not run", (run,))


def _make_agent(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    if is_in(node, facts):
        idle = "k3s-agent" not in facts.hosts[node.name].active
        start = Run(("systemctl", "start", "--no-block", "k3s-agent.service"))
        return [Step("workers.start", node.name, "start k3s", "does not run", (start,))] if idle else []
    # Agents learn of all servers from the first one that they meet, and balance between them.
    return [
        Step(
            "workers.join",
            node.name,
            "join as an agent",
            "is not in yet",
            _make_joiner(site, node, facts, site.masters[0]),
        )
    ]


def _make_settle(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    first = site.masters[0]
    waiting = [node for node in site.nodes if not facts.nodes.get(node.name, UNKNOWN).ready]
    if not waiting:
        return []
    why = f"not Ready when last seen: {', '.join(node.name for node in waiting)}"
    return [Step("settle.ready", first.name, "every device is Ready", why, (wait_nodes(waiting, KUBECTL, 900),))]
