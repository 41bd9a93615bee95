"""The end of a bring-up with kubeadm: every device is Ready and marked, and the way in is closed. Pure."""

from __future__ import annotations

from cumulet.kubernetes import make_taints
from cumulet.site.actions import Action, Run, Step
from cumulet.site.facts import SiteFacts
from cumulet.site.kubeadm_nodes import DROP_TOKENS, KUBECTL
from cumulet.site.model import SiteDocument, SiteNode
from cumulet.site.parts import ROLE_LABELS, UNKNOWN, make_node, wait_nodes


def make_settle(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """Every device Ready and with the marks of its role; nothing left that would let another one in."""
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
    joining = any(not facts.hosts[node.name].made for node in site.worker_nodes)
    if joining or facts.tokens:
        # One that a run left which was cut off would let devices in for half an hour more.
        steps.append(Step("settle.token", first.name, "take the token away", "all workers are in", (Run(DROP_TOKENS),)))
    return steps


def _make_marks(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Action]:
    """What tells the API server of a node's role; a kubelet says it once, when it registers, and roles change."""
    # A worker that joins registers anew; what was known under its name is gone by then.
    joins = node.role == "worker" and not facts.hosts[node.name].made
    known = UNKNOWN if joins else facts.nodes.get(node.name, UNKNOWN)
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
