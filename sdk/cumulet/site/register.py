"""The step to the central cloud: the control node gets the agent that registers the site at its hub.

The agent's own rights in the site are those of an account made for it. What follows
(certificate, acceptance, leases, work) is the agent's business; see docs/central.md.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cumulet.core.files import sha256_text
from cumulet.site.actions import Action, Late, Put, Run, Step, Vault, Wait
from cumulet.site.facts import SiteFacts
from cumulet.site.kubeadm_nodes import KUBECTL
from cumulet.site.model import BALANCER, Central, SiteDocument

FOLDER = "/etc/cumulet/agent"
MARK = "/var/lib/cumulet/site/registered"
UNIT = "/etc/systemd/system/cumulet-agent.service"
SECRET = ("-n", "kube-system", "get", "secret", "cumulet-agent")
TOKEN, AUTHORITY = "register/token", "register/authority"
SERVICE = f"""\
[Unit]
Description=Agent: keeps this site under its hub
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
ExecStart=/usr/bin/python3 -m cumulet.central.agent run {FOLDER}/agent.yaml
Restart=always
RestartSec=10
UMask=0077
NoNewPrivileges=yes
MemoryMax=128M

[Install]
WantedBy=multi-user.target
"""
NO_SDK = "this device's image has no SDK: build it with `sdk: true`"


def make_register_steps(site: SiteDocument, facts: SiteFacts) -> list[Step]:
    """Give the control node its agent, if the site has a hub and the agent is not there as it should be."""
    if site.central is None:
        return []
    mark = make_mark(site, site.central)
    known = facts.hosts[site.control.name].files.get(MARK)
    if known == sha256_text(mark):
        return []
    why = "has not been done" if known is None else "another hub, or other claims"
    account = (*_make_account(site), Run(("sync",)))
    return [
        Step("register.account", site.masters[0].name, "an account for the agent", why, account),
        Step("register.agent", site.control.name, f"the agent that makes {site.site} known at the hub", why, tuple(
            _make_agent(site, site.central, mark)
        )),
    ]  # fmt: skip


def _make_account(site: SiteDocument) -> list[Action]:
    from cumulet.central import make_agent_rights  # noqa: PLC0415 - sites without a hub need not wait for it

    kubectl = get_kubectl(site)
    objects = {"apiVersion": "v1", "kind": "List", "items": make_agent_rights()}
    return [
        Run((*kubectl, "apply", "--server-side", "--force-conflicts", "-f", "-"), json.dumps(objects)),
        Wait("the agent's token is made", (*kubectl, *SECRET, "-o", "go-template={{len .data.token}}"), 60),
        Run((*kubectl, *SECRET, "-o", "jsonpath={.data.token}"), into=TOKEN),
        Run((*kubectl, *SECRET, "-o", r"jsonpath={.data.ca\.crt}"), into=AUTHORITY),
    ]


def _make_agent(site: SiteDocument, central: Central, mark: str) -> list[Action]:
    hub_token = Late("the token for the hub", lambda vault: vault[f"file/{central.token}"])
    local = Late("how the agent reaches its own cluster", lambda vault: make_local_config(site, vault))
    authority = f"file/{central.authority}"
    files: list[Action] = [
        Run(("python3", "-c", "import cryptography, cumulet.central.agent.process"), explain=(("Error", NO_SDK),)),
        Put(f"{FOLDER}/agent.yaml", make_document(site, central), 0o600),
        Put(f"{FOLDER}/hub.token", hub_token, 0o600),
        Put(f"{FOLDER}/local.conf", local, 0o600),
    ]
    if central.authority:
        files.append(Put(f"{FOLDER}/hub.crt", Late("the hub's authority", lambda vault: vault[authority])))
    return [
        *files,
        Put(UNIT, SERVICE),
        Run(("systemctl", "daemon-reload")),
        Run(("systemctl", "enable", "cumulet-agent.service")),
        Run(("systemctl", "restart", "cumulet-agent.service")),
        Put(MARK, mark),
    ]


def make_document(site: SiteDocument, central: Central) -> str:
    """agent.yaml of a site (JSON is YAML too)."""
    hub: dict[str, Any] = {"server": central.hub, "token": "hub.token"}
    hub |= {"authority": "hub.crt"} if central.authority else {}
    document = {"version": 1, "cluster": site.site, "agent": "control", "tier": central.tier, "hubs": [hub]}
    document |= {"local": "local.conf", "claims": dict(central.claims)}
    return json.dumps(document, indent=1) + "\n"


def make_local_config(site: SiteDocument, vault: Vault) -> str:
    """A kubeconfig of the site for the agent, by the balancer where there is one."""
    cluster = {"server": f"https://{get_endpoint(site)}", "certificate-authority-data": vault[AUTHORITY].strip()}
    token = base64.b64decode(vault[TOKEN].strip()).decode()
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "site", "cluster": cluster}],
            "users": [{"name": "agent", "user": {"token": token}}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": "agent"}}],
            "current-context": "site",
        }
    )


def get_endpoint(site: SiteDocument) -> str:
    """Where the control node finds an API server."""
    if site.distribution == "kubeadm" and len(site.masters) > 1:
        return BALANCER
    return f"{site.masters[0].address}:6443"


def get_kubectl(site: SiteDocument) -> tuple[str, ...]:
    """The words to ask the cluster with, on a master."""
    return KUBECTL if site.distribution == "kubeadm" else ("k3s", "kubectl")


def make_mark(site: SiteDocument, central: Central) -> str:
    """What the control node remembers of its agent: all that decides how it is set up."""
    document = make_document(site, central)
    digests = {"document": sha256_text(document), "service": sha256_text(SERVICE)}
    return json.dumps({"hub": central.hub, "cluster": site.site, **digests}) + "\n"
