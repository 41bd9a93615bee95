"""From a site and facts about it to the phases that bring it up. Pure, and the list that a reader looks for.

preflight -> packages -> distribute -> system -> containers -> Kubernetes -> masters one
at a time -> workers side by side -> scripts -> AI runtime images and models -> register

What workers need before there is a cluster is done while the masters, which wait for
each other most of the time, join.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import ModuleType
from typing import Final, Protocol

from cumulet.kubernetes import Text
from cumulet.site import k3s, kubeadm, packages
from cumulet.site.actions import Action, Phase, Plan, Put, Run, Step
from cumulet.site.facts import SiteFacts
from cumulet.site.model import SiteDocument, SiteNode, Sources
from cumulet.site.parts import is_changed
from cumulet.site.register import MARK, make_register_steps
from cumulet.site.scripting import list_script_paths, make_script_steps

SITE_FILE = "/etc/cumulet/site.json"
HOSTS_FILE = "/etc/hosts"
BESIDE: Final = ("containers", "kubernetes", "masters", "admission")
"""Phases of servers, during which workers get what needs no cluster."""


class Distribution(Protocol):
    """How one distribution is brought up. Pure."""

    def make_ahead(self, site: SiteDocument, facts: SiteFacts) -> list[Step]:
        """What is done on workers before there is a cluster to join."""

    def make_phases(self, site: SiteDocument, facts: SiteFacts) -> list[Phase]:
        """From the first server to the last worker."""

    def list_paths(self, site: SiteDocument, node: SiteNode) -> list[str]:
        """Files of a device that the plan wants the digests of."""


DISTRIBUTIONS: Mapping[str, ModuleType] = {"kubeadm": kubeadm, "k3s": k3s}


def make_plan(site: SiteDocument, facts: SiteFacts, sources: Sources) -> Plan:
    """Everything that is to be done, in order. Empty if the site is as its document says."""
    distribution = DISTRIBUTIONS[site.distribution]
    # A device that cannot be written to is found out here, before anything is begun on the others.
    system = [step for node in site.nodes for step in _make_system(site, node, facts)]
    ahead = distribution.make_ahead(site, facts)
    phases = [
        *packages.make_early_phases(site, facts),
        Phase("system", "names and identity", tuple(system), site.at_once),
        Phase("ahead", "workers: what needs no cluster", tuple(ahead), site.at_once, BESIDE),
        *distribution.make_phases(site, facts),
        *packages.make_image_phases(site, facts),
        Phase("scripts", "programs of your own", tuple(make_script_steps(site, facts, sources)), site.at_once),
        *packages.make_late_phases(site, facts),
        Phase("register", "register at the central cloud", tuple(make_register_steps(site, facts))),
    ]
    return tuple(phase for phase in phases if phase.steps)


def list_paths(site: SiteDocument, sources: Sources) -> dict[str, list[str]]:
    """Node name -> the files whose digests a plan looks at."""
    distribution = DISTRIBUTIONS[site.distribution]
    own = [SITE_FILE, HOSTS_FILE, MARK, *list_script_paths(site, sources)]
    return {node.name: [*own, *distribution.list_paths(site, node)] for node in site.nodes}


def make_system_files(site: SiteDocument, node: SiteNode) -> dict[str, Text]:
    """What a device knows of its site."""
    identity = {
        "version": 1,
        "site": site.site,
        "node": node.name,
        "role": node.role,
        "distribution": site.distribution,
    }
    names = "".join(f"{each.address} {each.name}\n" for each in site.nodes)
    return {
        SITE_FILE: Text(json.dumps(identity, indent=1) + "\n"),
        HOSTS_FILE: Text(f"127.0.0.1 localhost\n::1 localhost\n{names}"),
    }


def _make_system(site: SiteDocument, node: SiteNode, facts: SiteFacts) -> list[Step]:
    host = facts.hosts[node.name]
    changed = {path: text for path, text in make_system_files(site, node).items() if is_changed(path, text, host)}
    if not changed:
        return []
    actions: list[Action] = [Put(path, text.content, text.mode) for path, text in changed.items()]
    why = f"changed: {', '.join(sorted(changed))}"
    return [
        Step(
            "system.identity",
            node.name,
            "which site it belongs to, names of the others",
            why,
            (*actions, Run(("sync", "-f", "/etc"))),
        )
    ]
