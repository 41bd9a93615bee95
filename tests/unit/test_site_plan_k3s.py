"""Plans for k3s from facts: what is done, where, in which order, and what is never done."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.core.files import sha256_text
from cumulet.kubernetes import Join, Node
from cumulet.kubernetes import k3s as nodes
from cumulet.site.actions import Late, Plan, Put, Run, Step, Wait, describe
from cumulet.site.facts import HostFacts, NodeFacts, SiteFacts
from cumulet.site.model import SiteDocument, parse_site
from cumulet.site.plan import list_paths, make_plan, make_system_files

ROLES = {"p1": "control", "p2": "master", "p3": "master", "p4": "worker", "p5": "worker"}
SECRET = "K10abc::server:secret"


def make_site(extra: str = "") -> SiteDocument:
    lines = "".join(f"- {{name: {n}, address: 10.0.0.1{n[1]}, role: {role}}}\n" for n, role in ROLES.items())
    return parse_site(f"version: 1\nsite: pier-7\n{extra}nodes:\n{lines}", "s")


SITE = make_site()


@cache
def make_whole(site: SiteDocument = SITE) -> SiteFacts:
    """A site that is as its document says."""
    hosts, known = {}, {}
    for node in site.nodes:
        server = {"control": None, "master": "10.0.0.11", "worker": "10.0.0.12"}[node.role]
        join = Join(f"{server}:6443", "") if server else None
        setup = nodes.make_node_setup(site.cluster, Node(node.name, node.role, node.address), [], join)
        files = {path: sha256_text(text.content) for path, text in setup.files.items()}
        files |= {path: sha256_text(text.content) for path, text in make_system_files(site, node).items()}
        worker = node.role == "worker"
        active = frozenset({"k3s-agent" if worker else "k3s"})
        hosts[node.name] = HostFacts(node.name, active=active, made=True, etcd_data=not worker, files=files)
        known[node.name] = NodeFacts(node.name, True, node.address, voter=None if worker else True)
    return SiteFacts(hosts, nodes=known, api=True)


def change(facts: SiteFacts, name: str, **changes: Any) -> SiteFacts:
    return replace(facts, hosts={**facts.hosts, name: replace(facts.hosts[name], **changes)})


def forget(facts: SiteFacts, *names: str) -> SiteFacts:
    return replace(facts, nodes={name: node for name, node in facts.nodes.items() if name not in names})


def say(facts: SiteFacts, name: str, **changes: Any) -> SiteFacts:
    return replace(facts, nodes={**facts.nodes, name: replace(facts.nodes[name], **changes)})


def lose_disk(facts: SiteFacts, name: str) -> SiteFacts:
    lost = change(facts, name, active=frozenset(), made=False, etcd_data=False, files={})
    return say(lost, name, ready=False)


def make_bare() -> SiteFacts:
    return SiteFacts({node.name: HostFacts(node.name) for node in SITE.nodes})


def plan_of(facts: SiteFacts, site: SiteDocument = SITE) -> Plan:
    return make_plan(site, facts, {})


def ids(plan: Plan) -> list[str]:
    return [step.id for phase in plan for step in phase.steps if not step.name.startswith("system")]


def step_of(plan: Plan, name: str) -> Step:
    return next(step for phase in plan for step in phase.steps if step.id == name)


def test_bare_devices_become_a_site() -> None:
    plan = plan_of(make_bare())
    assert ids(plan) == [
        "kubernetes.control@p1",
        "kubernetes.token@p1",
        "masters.join@p2",
        "masters.join@p3",
        "workers.join@p4",
        "workers.join@p5",
        "settle.ready@p2",
    ]
    assert {phase.name: phase.at_once for phase in plan} == {
        "system": 8, "kubernetes": 1, "masters": 1, "workers": 8, "settle": 1,
    }  # fmt: skip


def test_a_master_is_waited_for_until_it_is_ready_and_votes() -> None:
    last = step_of(plan_of(make_bare()), "masters.join@p2").actions[-2:]
    assert [describe(each).partition(":")[0] for each in last] == [
        "wait up to 900 s until Ready",
        "wait up to 300 s until p2 is a voter of etcd",
    ]


def test_a_site_as_it_should_be_has_an_empty_plan() -> None:
    assert plan_of(make_whole()) == ()


def test_where_a_device_once_joined_does_not_matter() -> None:
    facts = make_whole()
    for name, server in (("p1", "10.0.0.13"), ("p3", "10.0.0.12"), ("p5", "10.0.0.13")):
        node = SITE.node(name)
        assert node is not None
        join = Join(f"{server}:6443", "")
        setup = nodes.make_node_setup(SITE.cluster, Node(name, node.role, node.address), [], join)
        files = {path: sha256_text(text.content) for path, text in setup.files.items()}
        facts = change(facts, name, files={**facts.hosts[name].files, **files})
    assert plan_of(facts) == ()


def test_all_files_that_a_plan_looks_at_are_asked_for() -> None:
    asked = list_paths(SITE, {})
    for name, host in make_whole().hosts.items():
        assert set(host.files) <= set(asked[name]), name


@pytest.mark.parametrize("name", ROLES)
def test_what_does_not_run_is_started(name: str) -> None:
    prefix = {"control": "kubernetes", "master": "masters", "worker": "workers"}[ROLES[name]]
    assert ids(plan_of(change(make_whole(), name, active=frozenset()))) == [f"{prefix}.start@{name}"]


@pytest.mark.parametrize("name", ROLES)
def test_changed_settings_are_written_and_read_again(name: str) -> None:
    facts = make_whole()
    path = nodes.AGENT_CONFIG if ROLES[name] == "worker" else nodes.CONFIG
    plan = plan_of(change(facts, name, files={**facts.hosts[name].files, path: "other"}))
    prefix = {"control": "kubernetes", "master": "masters", "worker": "workers"}[ROLES[name]]
    token = [] if name == "p1" else ["kubernetes.token@p1"]
    assert ids(plan) == [*token, f"{prefix}.settings@{name}"]
    step = step_of(plan, f"{prefix}.settings@{name}")
    assert step.why == f"changed: {path}"
    unit = "k3s-agent" if ROLES[name] == "worker" else "k3s"
    assert Run(("systemctl", "restart", f"{unit}.service"), seconds=300) in step.actions
    # The next server is not begun before this one counts again.
    assert isinstance(step.actions[-1], Wait) == (ROLES[name] == "master")


def test_settings_of_all_servers_change_one_server_after_the_other() -> None:
    plan = plan_of(make_whole(), make_site("network: {pod_cidr: 10.52.0.0/16}\n"))
    assert ids(plan)[:4] == [
        "kubernetes.settings@p1",
        "kubernetes.token@p1",
        "masters.settings@p2",
        "masters.settings@p3",
    ]
    assert all(phase.at_once == 1 for phase in plan if phase.name in ("kubernetes", "masters"))


def test_a_learner_that_does_not_run_leaves_etcd_before_its_disk_is_cleared() -> None:
    facts = say(change(make_whole(), "p3", active=frozenset()), "p3", voter=False, ready=False)
    plan = plan_of(facts)
    assert ids(plan) == [
        "kubernetes.token@p1",
        "masters.stop@p3",
        "masters.forget@p2",
        "masters.wipe@p3",
        "masters.join@p3",
        "settle.ready@p2",
    ]
    annotate, gone, delete = step_of(plan, "masters.forget@p2").actions
    assert isinstance(annotate, Run)
    assert "etcd.k3s.cattle.io/remove=true" in annotate.argv
    assert isinstance(gone, Wait)
    assert "removed-node-name" in gone.argv[-1]
    assert isinstance(delete, Run)
    assert delete.argv[-3:] == ("delete", "node", "p3")
    assert step_of(plan, "masters.join@p3").why == "is half-way in"


def test_a_learner_that_runs_is_waited_for() -> None:
    facts = say(make_whole(), "p3", voter=None, ready=False)
    assert ids(plan_of(facts)) == ["kubernetes.token@p1", "masters.join@p3", "settle.ready@p2"]


def test_a_first_master_that_nobody_knows_yet_goes_on_with_what_it_has() -> None:
    facts = replace(forget(make_whole(), *ROLES), api=False)
    for name in ("p2", "p3", "p4", "p5"):
        facts = change(facts, name, active=frozenset(), made=False, etcd_data=name == "p2")
    assert not [each for each in ids(plan_of(facts)) if "wipe" in each]


def test_a_master_that_has_lost_its_disk_leaves_etcd_and_joins_again() -> None:
    assert ids(plan_of(lose_disk(make_whole(), "p2"))) == [
        "kubernetes.token@p1",
        "masters.stop@p2",
        "masters.forget@p3",
        "masters.wipe@p2",
        "masters.join@p2",
        "settle.ready@p3",
    ]


def test_data_of_another_cluster_are_removed_before_a_master_joins() -> None:
    facts = change(forget(make_whole(), "p3"), "p3", active=frozenset(), files={})
    plan = plan_of(facts)
    assert ids(plan)[1:3] == ["masters.wipe@p3", "masters.join@p3"]
    # Its certificates too: with them no server here would let it in.
    assert step_of(plan, "masters.wipe@p3").actions[-1] == Run(("rm", "-rf", "/var/lib/rancher/k3s/server"))


@pytest.mark.parametrize("api", [True, False])
def test_data_of_this_cluster_are_never_removed_unless_etcd_has_let_go(api: bool) -> None:
    """Nobody answers after a power cut; that a device is not known then says nothing."""
    facts = replace(make_whole(), api=False, nodes={}) if not api else make_whole()
    for name in ROLES:
        facts = change(facts, name, active=frozenset(), files={})
    assert not [each for each in ids(plan_of(facts)) if "wipe" in each or "forget" in each]


def test_a_control_node_without_a_disk_joins_the_masters() -> None:
    plan = plan_of(lose_disk(make_whole(), "p1"))
    assert ids(plan) == [
        "kubernetes.token@p2",
        "kubernetes.stop@p1",
        "kubernetes.forget@p2",
        "kubernetes.wipe@p1",
        "kubernetes.join@p1",
        "kubernetes.voter@p2",
        "settle.ready@p2",
    ]
    settings = next(a for a in step_of(plan, "kubernetes.join@p1").actions if isinstance(a, Put) and "config" in a.path)
    assert "cluster-init" not in str(settings.content)
    assert "server: https://10.0.0.12:6443" in str(settings.content)


def test_a_control_node_never_starts_a_second_cluster() -> None:
    facts = replace(lose_disk(make_whole(), "p1"), nodes={}, api=False)
    with pytest.raises(TargetError) as caught:
        plan_of(facts)
    assert caught.value.message == "p2, p3: has data of a cluster that does not answer, and p1 has none"
    assert caught.value.hint == "start the devices that keep it, or clear them: cumulet site reset"


def test_a_worker_without_a_disk_is_forgotten_and_joins_again() -> None:
    plan = plan_of(lose_disk(make_whole(), "p4"))
    assert ids(plan) == ["kubernetes.token@p1", "admission.forget@p2", "workers.join@p4", "settle.ready@p2"]
    assert next(phase.at_once for phase in plan if phase.name == "admission") == 1


def test_a_worker_half_way_in_joins() -> None:
    facts = change(forget(make_whole(), "p5"), "p5", active=frozenset(), made=False)
    assert ids(plan_of(facts)) == ["kubernetes.token@p1", "workers.join@p5", "settle.ready@p2"]


def test_devices_join_at_a_master_that_answers() -> None:
    facts = say(lose_disk(make_whole(), "p5"), "p2", ready=False)
    step = step_of(plan_of(facts), "workers.join@p5")
    texts = [str(each.content) for each in step.actions if isinstance(each, Put)]
    assert any("server: https://10.0.0.13:6443" in each for each in texts)


def test_servers_never_join_side_by_side() -> None:
    for facts in (make_bare(), lose_disk(lose_disk(make_whole(), "p2"), "p4"), lose_disk(make_whole(), "p1")):
        for phase in plan_of(facts):
            joins = [step for step in phase.steps if ROLES[step.host] != "worker" and step.name != "system.identity"]
            assert phase.at_once == 1 or not joins


def test_a_lone_node_waits_for_its_own_api_server() -> None:
    site = parse_site("version: 1\nsite: a\nnodes: [{name: n, address: 10.0.0.1, role: single}]\n", "s")
    plan = make_plan(site, SiteFacts({"n": HostFacts("n")}), {})
    assert ids(plan) == ["kubernetes.control@n", "settle.ready@n"]
    assert describe(step_of(plan, "kubernetes.control@n").actions[-1]).startswith("wait up to 300 s until its API")


def test_the_token_is_only_in_its_own_file_and_in_no_text_of_a_plan() -> None:
    plan = plan_of(make_bare())
    late = 0
    for step in (step for phase in plan for step in phase.steps):
        for action in step.actions:
            assert SECRET not in repr(action) + describe(action)
            if isinstance(action, Put) and isinstance(action.content, Late):
                late += 1
                assert (action.path, action.mode) == (nodes.TOKEN, 0o600)
                assert action.content.make({"token": f"{SECRET}\n"}) == f"{SECRET}\n"
    assert late == 4


def make_promoted() -> tuple[SiteDocument, SiteFacts]:
    """p3 is gone for good: p1 becomes a master and p5 the control node; both are still what they were."""
    roles = {"p1": "master", "p2": "master", "p4": "worker", "p5": "control"}
    lines = "".join(f"- {{name: {n}, address: 10.0.0.1{n[1]}, role: {role}}}\n" for n, role in roles.items())
    facts = forget(make_whole(), "p3")
    return parse_site(f"version: 1\nsite: pier-7\nnodes:\n{lines}", "s"), facts


def test_nothing_is_asked_of_a_master_that_has_no_api_server_yet() -> None:
    site, facts = make_promoted()
    steps = [step for phase in make_plan(site, facts, {}) for step in phase.steps]
    (settings,) = (index for index, step in enumerate(steps) if step.id == "masters.settings@p1")
    assert [step.id for step in steps[:settings] if step.host == "p1" and "kubectl" in str(step.actions)] == []


def test_an_agent_that_becomes_a_server_ends_and_loses_its_name_first() -> None:
    site, facts = make_promoted()
    steps = [step for phase in make_plan(site, facts, {}) for step in phase.steps if step.name.startswith("kubernetes")]
    assert [step.id for step in steps[:4]] == [
        "kubernetes.token@p2", "kubernetes.stop@p5", "kubernetes.forget@p2", "kubernetes.join@p5",
    ]  # fmt: skip
    assert "annotate" not in str(steps)
