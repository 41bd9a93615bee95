"""Bringing up k3s: an etcd-only control node first, masters one at a time, then agents. Pure.

A joining master is in only when the API server calls its node Ready and its etcd member
a voter; the next one is not begun before that. A member that will not come back is taken
out of etcd before its disk is cleared, never the other way round.
"""

from __future__ import annotations

from typing import Final

from cumulet.core.errors import TargetError
from cumulet.core.files import sha256_text
from cumulet.kubernetes import Join, Setup
from cumulet.kubernetes import k3s as nodes
from cumulet.site.actions import Action, Fetch, Late, Phase, Put, Run, Step, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import UNKNOWN, is_changed, make_node, wait_api, wait_nodes

KUBECTL: Final = ("k3s", "kubectl", "--kubeconfig=/etc/rancher/k3s/k3s.yaml")
ADMISSION: Final = "/var/lib/rancher/k3s/server/token"
SERVER: Final = "/var/lib/rancher/k3s/server"
"""All that a server keeps; with the certificates of another cluster it would not be let in."""
DATA: Final = f"{SERVER}/db"
PORT: Final = 6443
VOTER: Final = '{.status.conditions[?(@.type=="EtcdIsVoter")].status}'
REMOVED: Final = "{.metadata.annotations.etcd\\.k3s\\.cattle\\.io/removed-node-name}"

HAS_ETCD: Final = Wait(
    "its etcd has data and a token", ("sh", "-c", f"test -s {ADMISSION} && test -d {DATA}/etcd/member"), 300
)


def make_phases(site: SiteDocument, facts: SiteFacts) -> list[Phase]:
    """The phases from the first server to the last worker."""
    first = _make_control(site, site.control, facts)
    masters = [step for node in site.servers[1:] for step in _make_master(site, node, facts)]
    workers = [step for node in site.nodes if node.role == "worker" for step in _make_agent(site, node, facts)]
    # Where the control node is to be let in itself, a master has the token.
    rejoins = any(_uses_token(step) for step in first)
    asking = [step.host for step in (*first, *masters, *workers) if _uses_token(step)]
    token = [_make_token(_find_server(site, facts) if rejoins else site.control, asking)] if asking else []
    phases = [
        Phase("kubernetes", "start the cluster", tuple([*token, *first] if rejoins else [*first, *token])),
        Phase("masters", "masters, one at a time", tuple(masters)),
        Phase("admission", "what lets workers in", tuple(_make_admission(site, facts))),
        Phase("workers", "workers, side by side", tuple(workers), site.at_once),
        Phase("settle", "every device is Ready", tuple(_make_settle(site, facts))),
    ]
    return [phase for phase in phases if phase.steps]


def make_ahead(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """Nothing: an agent's settings come with the token that lets it in."""
    return []


def list_paths(site: SiteDocument, node: SiteNode) -> list[str]:
    """The files of a device whose digests a plan looks at."""
    serves = node.role in ("single", "master")
    return [_config(node), nodes.REGISTRIES, nodes.TOKEN, *([nodes.SCHEDULER] if serves else [])]


def is_in(node: SiteNode, facts: SiteFacts) -> bool:
    """Whether a device is part of the cluster: it has what it keeps, the API server knows it, etcd counts on it."""
    host, known = facts.hosts[node.name], facts.nodes.get(node.name, UNKNOWN)
    if node.role == "worker":
        return known.name != "" and host.made
    return known.name != "" and known.voter is True and (host.etcd_data or "k3s" in host.active)


def unit_of(node: SiteNode) -> str:
    """The unit that runs k3s on a device of this role."""
    return "k3s-agent" if node.role == "worker" else "k3s"


def _config(node: SiteNode) -> str:
    return nodes.AGENT_CONFIG if node.role == "worker" else nodes.CONFIG


def _find_server(site: SiteDocument, facts: SiteFacts, *, but: SiteNode | None = None) -> SiteNode:
    """A master whose API server can be asked and joined; the first one while none of them is in.

    One that was the control node until now has no API server before its settings have changed.
    """
    others = [node for node in site.masters if node != but]
    ready = [node for node in others if facts.nodes.get(node.name, UNKNOWN).ready and is_in(node, facts)]
    settled = [node for node in ready if not _find_changes(site, node, facts, site.control)]
    return (settled or ready or others)[0]


def _make_files(site: SiteDocument, node: SiteNode, facts: SiteFacts, server: SiteNode | None, token: str) -> Setup:
    join = None if server is None else Join(f"{server.address}:{PORT}", token)
    return nodes.make_node_setup(site.cluster, make_node(node, facts.hosts[node.name]), [], join)


def _make_puts(site: SiteDocument, node: SiteNode, facts: SiteFacts, server: SiteNode | None) -> list[Action]:
    """Writes a device's settings; with a `server`, those that join there."""
    files = _make_files(site, node, facts, server, "").files
    token = Late("the token that lets it in", lambda vault: nodes.make_token_text(vault["token"]))
    return [
        Put(path, token if path == nodes.TOKEN else text.content, text.mode) for path, text in sorted(files.items())
    ]


def _uses_token(step: Step) -> bool:
    return any(isinstance(action, Put) and isinstance(action.content, Late) for action in step.actions)


def _make_token(server: SiteNode, asking: list[str]) -> Step:
    why = f"asked for by {', '.join(dict.fromkeys(asking))}"
    title = "read the token that lets servers and agents in"
    return Step("kubernetes.token", server.name, title, why, (Fetch(ADMISSION, "token"),))


def _make_control(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """The server that starts the cluster; alone it has no API server yet, so only its etcd is waited for."""
    host = facts.hosts[node.name]
    if "k3s" in host.active or host.etcd_data:
        return _make_kept(site, node, facts)
    if any(is_in(each, facts) for each in site.servers[1:]):
        return _make_rejoin(site, node, facts)
    others = [each.name for each in site.servers[1:] if facts.hosts[each.name].etcd_data]
    if others:
        # A new cluster here would cut off everything that the others keep.
        raise TargetError(
            f"{', '.join(others)}: has data of a cluster that does not answer, and {node.name} has none",
            hint="start the devices that keep it, or clear them: cumulet site reset",
        )
    actions: list[Action] = [*_make_puts(site, node, facts, None), _start(node), HAS_ETCD]
    if node.role == "single":
        actions.append(wait_api(KUBECTL))
    return [
        Step("kubernetes.control", node.name, "the first member of etcd", "there is no cluster yet", tuple(actions))
    ]


def _make_rejoin(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """The control node has lost its disk and the masters keep the cluster: it comes back as one that joins."""
    server = _find_server(site, facts)
    known = facts.nodes.get(node.name, UNKNOWN)
    if known.name and known.voter is None:
        steps = _make_conversion(node, server)
    else:
        steps = _make_removal(node, server, "kubernetes", "its disk has no data of it") if known.name else []
    actions = (*_make_puts(site, node, facts, server), _start(node))
    why = "the masters keep the cluster, it has no data"
    return [
        *steps,
        Step("kubernetes.join", node.name, "join as the third vote", why, actions),
        Step("kubernetes.voter", server.name, f"{node.name} is in", why, make_waits(node)),
    ]


def _make_conversion(node: SiteNode, other: SiteNode) -> list[Step]:
    """What an agent was ends before it becomes a server: it has no member, and its name is taken until then."""
    why = "was a worker"
    halt = (Run(("systemctl", "stop", "k3s-agent.service"), seconds=180), Run(("rm", "-f", nodes.AGENT_CONFIG)))
    forget = (Run((*KUBECTL, "delete", "node", node.name, "--ignore-not-found")),)
    return [
        Step("kubernetes.stop", node.name, "stop its agent", why, halt),
        Step("kubernetes.forget", other.name, f"take {node.name} out of the cluster", why, forget),
    ]


def _start(node: SiteNode) -> Run:
    script = f"systemctl reset-failed; systemctl start --no-block {unit_of(node)}.service"
    return Run(("sh", "-c", script))


def make_waits(node: SiteNode) -> tuple[Action, ...]:
    """Asked where an API server is: Ready, and a voter of etcd."""
    voter = ("sh", "-c", f"test \"$({' '.join(KUBECTL)} get node {node.name} -o jsonpath='{VOTER}')\" = True")
    return (wait_nodes([node], KUBECTL, 900), Wait(f"{node.name} is a voter of etcd", voter, 300))


def _make_kept(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    """A device that is in: settings that are not as they should be, a program that does not run."""
    host = facts.hosts[node.name]
    prefix = {"worker": "workers", "master": "masters"}.get(node.role, "kubernetes")
    if node.role in ("control", "single"):
        server = None
    else:
        server = site.control if node.role == "master" else _find_server(site, facts)
    changed = _find_changes(site, node, facts, server)
    if changed:
        # One server after the other: the next one's turn comes when this one counts again.
        waits: tuple[Action, ...] = make_waits(node) if node.role == "master" and facts.api else ()
        restart = Run(("systemctl", "restart", f"{unit_of(node)}.service"), seconds=300)
        actions = (*_make_puts(site, node, facts, server), restart, *waits)
        return [Step(f"{prefix}.settings", node.name, "settings", f"changed: {', '.join(changed)}", actions)]
    if unit_of(node) not in host.active:
        # What follows reads the token from the control node.
        waits = (HAS_ETCD,) if prefix == "kubernetes" else ()
        return [Step(f"{prefix}.start", node.name, "start k3s", "does not run", (_start(node), *waits))]
    return []


def _find_changes(site: SiteDocument, node: SiteNode, facts: SiteFacts, server: SiteNode | None) -> list[str]:
    """Files that are not as they should be. Where a device once joined does not matter: it has met all servers."""
    host = facts.hosts[node.name]
    changed = []
    for path, text in _make_files(site, node, facts, server, "").files.items():
        if path == _config(node):
            doors = [*(each for each in site.servers if each != node), *([None] if node == site.control else [])]
            texts = [_make_files(site, node, facts, door, "").files[path] for door in doors]
            is_known = host.files.get(path) in [sha256_text(each.content) for each in texts]
        elif path == nodes.TOKEN:
            is_known = path in host.files
        else:
            is_known = not is_changed(path, text, host)
        if not is_known:
            changed.append(path)
    return sorted(changed)


def _make_master(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host, known = facts.hosts[node.name], facts.nodes.get(node.name, UNKNOWN)
    if is_in(node, facts):
        return _make_kept(site, node, facts)
    steps = []
    if known.name and "k3s" not in host.active:
        # Its member will not come back by itself: out of etcd first, by k3s, and only then is its disk cleared.
        reason = "its etcd member is half-way in" if known.voter is not True else "its disk has no data of it"
        steps += _make_removal(node, _find_server(site, facts, but=node), "masters", reason)
    elif not known.name and facts.api and host.etcd_data and _find_changes(site, node, facts, site.control):
        # k3s would go on with what it finds. What an earlier try of this site has left has this site's settings.
        steps += [_make_wipe(node, "masters", "remove data of another cluster", "no server here knows it", SERVER)]
    half = known.name or "k3s" in host.active or host.etcd_data
    why = "is half-way in" if half else "is not in yet"
    # Waited for on the master itself: until the first one is in, nobody else has an API server.
    actions = (*_make_puts(site, node, facts, site.control), _start(node), *make_waits(node))
    return [*steps, Step("masters.join", node.name, "join as a server", why, actions)]


def leave_etcd(node: SiteNode) -> tuple[Action, ...]:
    """Let k3s take a member out of etcd, asked for on a master that is in."""
    gone = f"test -n \"$({' '.join(KUBECTL)} get node {node.name} -o jsonpath='{REMOVED}')\""
    return (
        Run((*KUBECTL, "annotate", "--overwrite", "node", node.name, "etcd.k3s.cattle.io/remove=true")),
        Wait(f"etcd has let {node.name} go", ("sh", "-c", gone), 120),
    )


def _make_removal(node: SiteNode, other: SiteNode, prefix: str, why: str) -> list[Step]:
    """Steps that take a member out of etcd, asked for on a master that is in, and then clear its disk."""
    forget = (*leave_etcd(node), Run((*KUBECTL, "delete", "node", node.name)))
    # Stopped before, or it would make itself known again.
    halt = Run(("systemctl", "stop", "k3s.service"), seconds=180)
    return [
        Step(f"{prefix}.stop", node.name, "stop k3s", why, (halt,)),
        Step(f"{prefix}.forget", other.name, f"take {node.name} out of etcd", why, forget),
        _make_wipe(node, prefix, "clear what its member has kept", "is out of etcd"),
    ]


def _make_wipe(node: SiteNode, prefix: str, title: str, why: str, folder: str = DATA) -> Step:
    halt = Run(("systemctl", "stop", "k3s.service"), seconds=180)
    return Step(f"{prefix}.wipe", node.name, title, why, (halt, Run(("rm", "-rf", folder))))


def _make_admission(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """The servers keep a password of each node; a device that has lost its own is refused under the old name."""
    server = _find_server(site, facts).name
    lost = [n for n in site.nodes if n.role == "worker" and n.name in facts.nodes and not is_in(n, facts)]
    return [
        Step(
            "admission.forget",
            server,
            f"forget what {node.name} was",
            "it has lost its disk",
            (Run((*KUBECTL, "delete", "node", node.name)),),
        )
        for node in lost
    ]


def _make_agent(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    if is_in(node, facts):
        return _make_kept(site, node, facts)
    # Agents learn of all servers from the first one that they meet, and balance between them.
    actions = (*_make_puts(site, node, facts, _find_server(site, facts)), _start(node))
    return [Step("workers.join", node.name, "join as an agent", "is not in yet", actions)]


def _make_settle(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    waiting = [node for node in site.nodes if not facts.nodes.get(node.name, UNKNOWN).ready]
    if not waiting:
        return []
    why = f"not Ready when last seen: {', '.join(node.name for node in waiting)}"
    ready = (wait_nodes(waiting, KUBECTL, 900),)
    return [Step("settle.ready", _find_server(site, facts).name, "every device is Ready", why, ready)]
