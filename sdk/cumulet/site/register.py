"""The first step towards the central cloud: the site makes itself known at its hub.

The object is that of Open Cluster Management: a ManagedCluster that the hub has still
to accept. What follows (certificate, leases, work) is the business of the agent.
"""

from __future__ import annotations

import base64
import json

from cumulet.core.files import sha256_text
from cumulet.kubernetes import make_yaml
from cumulet.site.actions import Action, Late, Put, Run, Step, Vault
from cumulet.site.facts import SiteFacts
from cumulet.site.kubeadm_nodes import KUBECTL
from cumulet.site.model import Central, SiteDocument

CONFIG = "/etc/cumulet/hub.conf"
MARK = "/var/lib/cumulet/site/registered"


def make_register_steps(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """Make the site known at its hub, if it has one and has not done so yet."""
    if site.central is None:
        return []
    central, first = site.central, site.masters[0]
    manifest = make_manifest(site)
    mark = make_mark(site, central)
    if facts.hosts[first.name].files.get(MARK) == sha256_text(mark):
        return []
    program = KUBECTL[0] if site.distribution == "kubeadm" else "k3s kubectl"
    config = Late("how to reach the hub, with its token", lambda vault: make_hub_config(central, vault))
    actions: tuple[Action, ...] = (
        Put(CONFIG, config, 0o600),
        Run(
            (*program.split(), f"--kubeconfig={CONFIG}", "apply", "--server-side", "--validate=false", "-f", "-"),
            manifest,
        ),
        Put(MARK, mark),
    )
    return [Step("register.cluster", first.name, f"make {site.site} known at the hub", "has not been done", actions)]


def make_manifest(site: SiteDocument) -> str:
    """The ManagedCluster of a site."""
    return make_yaml(
        {
            "apiVersion": "cluster.open-cluster-management.io/v1",
            "kind": "ManagedCluster",
            "metadata": {"name": site.site},
            "spec": {"hubAcceptsClient": False, "leaseDurationSeconds": 60},
        }
    )


def make_hub_config(central: Central, vault: Vault) -> str:
    """A kubeconfig that reaches the hub with the bootstrap token. The vault has the files that the document names."""
    cluster: dict[str, object] = {"server": central.hub}
    if central.authority:
        authority = vault[f"file/{central.authority}"].encode()
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "hub", "cluster": cluster}],
            "users": [{"name": "hub", "user": {"token": vault[f"file/{central.token}"].strip()}}],
            "contexts": [{"name": "hub", "context": {"cluster": "hub", "user": "hub"}}],
            "current-context": "hub",
        }
    )


def make_mark(site: SiteDocument, central: Central) -> str:
    """What a master remembers of the registration."""
    return json.dumps({"hub": central.hub, "cluster": site.site}) + "\n"
