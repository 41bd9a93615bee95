"""The plan of an upgrade: which device switches when, and what has to be true before the next one. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from cumulet.site.actions import Action, Phase, Plan, Put, Run, Step, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.lives import LIVES
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import make_drain, wait_nodes

Overlay = tuple[str, str]
"""Path on the device of a new program, path of the one that it is laid over."""


def make_upgrade(site: SiteDocument, facts: SiteFacts, programs: Sequence[Overlay], version: str, at_once: int) -> Plan:
    """Switch node by node: masters first and one at a time, then the control node, then workers in batches.

    Each device must be Ready with the new version before the next is begun; the first that is not stops everything.
    """
    order = [*site.masters, *(node for node in site.servers if node not in site.masters)]
    waiting = [node for node in order if facts.nodes[node.name].version != version]
    steps = tuple(step for node in waiting for step in _make_turn(site, node, programs, version))
    phases = [Phase("servers", "servers, one at a time", steps)]
    workers = [node for node in site.nodes if node.role == "worker" and facts.nodes[node.name].version != version]
    for begin in range(0, len(workers), at_once):
        batch = workers[begin : begin + at_once]
        steps = tuple(step for node in batch for step in _make_turn(site, node, programs, version))
        phases.append(Phase(f"workers-{begin // at_once + 1}", f"workers: {', '.join(n.name for n in batch)}", steps))
    return tuple(phase for phase in phases if phase.steps)


def _make_turn(site: SiteDocument, node: SiteNode, programs: Sequence[Overlay], version: str) -> list[Step]:
    kubectl = LIVES[site.distribution].KUBECTL
    other = next((each for each in site.masters if each.name != node.name), node)
    seen = "jsonpath={.status.nodeInfo.kubeletVersion}"
    words = " ".join((*kubectl, "get", "node", node.name, "-o", f"'{seen}'"))
    healthy: tuple[Action, ...] = (
        wait_nodes([node], kubectl),
        Wait(f"{node.name} runs {version}", ("sh", "-c", f'test "$({words})" = {version}'), 120),
        Run((*kubectl, "uncordon", node.name)),
    )
    steps = [
        _make_switch(site, node, programs),
        Step("upgrade.check", other.name, f"{node.name} is Ready with {version}", "before the next one", healthy),
    ]
    if len(site.nodes) > 1:
        drain = make_drain(node, other, kubectl)
        steps.insert(0, Step("upgrade.drain", drain.host, drain.title, "it gets new programs", drain.actions))
    return steps


def _make_switch(site: SiteDocument, node: SiteNode, programs: Sequence[Overlay]) -> Step:
    """Let a node run other programs: each is laid over the image's own, now and at every start."""
    units = {_unit_of(target): make_mount(source, target) for source, target in programs}
    mounts = " ".join(f"'{unit}'" for unit in units)
    lay = f'for unit in {mounts}; do systemctl enable -q "$unit" && systemctl restart "$unit" || exit 1; done'
    actions: tuple[Action, ...] = (
        *(Put(f"/etc/systemd/system/{unit}", text) for unit, text in units.items()),
        Run(("systemctl", "daemon-reload")),
        Run(("sh", "-c", lay)),
        *LIVES[site.distribution].make_restart(site, node, [target for _, target in programs]),
    )
    return Step("upgrade.switch", node.name, "run the new programs", "another version is asked for", actions)


def _unit_of(target: str) -> str:
    """What systemd calls the mount of a path."""
    return target.strip("/").replace("-", "\\x2d").replace("/", "-") + ".mount"


def make_mount(source: str, target: str) -> str:
    """A unit that lays one program over another before anything of Kubernetes starts."""
    return (
        f"[Unit]\nDescription=Another version of {target}\nDefaultDependencies=no\nAfter=local-fs.target\n"
        f"Before=containerd.service cumulet-kubernetes.target k3s.service k3s-agent.service\n"
        f"ConditionPathExists={source}\n\n"
        f"[Mount]\nWhat={source}\nWhere={target}\nType=none\nOptions=bind,ro\n\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
