"""The step to the central cloud in a bring-up: what it does, where, and that it is done once."""

from __future__ import annotations

import base64
import json
from typing import Any

from cumulet.central.agent.config import load_config
from cumulet.core.files import sha256_text
from cumulet.site.actions import Put, Run, Step
from cumulet.site.model import SiteDocument, parse_site
from cumulet.site.register import AUTHORITY, MARK, SERVICE, TOKEN, make_local_config, make_mark, make_register_steps

TEXT = """\
version: 1
site: pier-7
distribution: DISTRIBUTION
nodes:
  - {name: p1, address: 10.0.0.11, role: control}
  - {name: p2, address: 10.0.0.12, role: master}
  - {name: p3, address: 10.0.0.13, role: master}
central: {hub: https://hub.example:6443, token: hub.token, authority: hub.crt, claims: {gpu: adreno-630}}
"""
"""A site with a hub."""


def site(distribution: str = "kubeadm") -> SiteDocument:
    """The document."""
    return parse_site(TEXT.replace("DISTRIBUTION", distribution), "site.yaml")


def plan(document: SiteDocument, mark: str = "") -> list[Step]:
    """The steps, when the control node has this mark."""
    files = {MARK: sha256_text(mark)} if mark else {}
    hosts: Any = {
        node.name: type("Facts", (), {"files": files if node.name == "p1" else {}}) for node in document.nodes
    }
    facts: Any = type("Facts", (), {"hosts": hosts})
    return make_register_steps(document, facts)


def test_the_control_node_gets_the_agent_and_a_master_makes_its_account() -> None:
    account, agent = plan(site())
    assert (account.host, agent.host) == ("p2", "p1")
    run = account.actions[0]
    assert isinstance(run, Run) and isinstance(run.input, str)
    kinds = [each["kind"] for each in json.loads(run.input)["items"]]
    assert kinds == ["ServiceAccount", "Secret", "ClusterRole", "ClusterRoleBinding"]
    puts = [each.path for each in agent.actions if isinstance(each, Put)]
    assert puts[-1] == MARK and "/etc/cumulet/agent/hub.token" in puts


def test_no_secret_is_in_the_plan() -> None:
    for step in plan(site()):
        for action in step.actions:
            if isinstance(action, Put) and action.path.endswith((".token", ".conf")):
                assert not isinstance(action.content, str) and action.mode == 0o600


def test_the_agent_understands_its_document(tmp_path: Any) -> None:
    agent = plan(site())[1]
    text = next(each.content for each in agent.actions if isinstance(each, Put) and each.path.endswith("agent.yaml"))
    (tmp_path / "agent.yaml").write_text(text)
    found = load_config(tmp_path / "agent.yaml")
    assert (found.cluster, found.agent, found.claims) == ("pier-7", "control", {"gpu": "adreno-630"})
    assert found.hubs[0].server == "https://hub.example:6443" and found.local == tmp_path / "local.conf"


def test_a_second_bring_up_does_nothing_and_another_hub_something() -> None:
    document = site()
    assert document.central is not None
    assert plan(document, make_mark(document, document.central)) == []
    assert [step.why for step in plan(document, "other")] == ["another hub, or other claims"] * 2


def test_the_agent_reaches_its_site_by_the_balancer_or_the_first_master() -> None:
    vault = {TOKEN: base64.b64encode(b"t").decode(), AUTHORITY: "QQ=="}
    for distribution, server in (("kubeadm", "https://127.0.0.1:7443"), ("k3s", "https://10.0.0.12:6443")):
        config = json.loads(make_local_config(site(distribution), vault))
        assert config["clusters"][0]["cluster"]["server"] == server
        assert config["users"][0]["user"]["token"] == "t"


def test_the_service_cannot_eat_the_device() -> None:
    assert "MemoryMax=128M" in SERVICE and "Restart=always" in SERVICE


def test_a_site_without_a_hub_has_no_such_step() -> None:
    text = TEXT.replace("DISTRIBUTION", "kubeadm").split("central:")[0]
    assert plan(parse_site(text, "site.yaml")) == []
