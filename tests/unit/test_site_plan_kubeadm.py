"""Plans for upstream Kubernetes from facts: what is done, where, in which order, and what is never done."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.core.files import sha256_text
from cumulet.kubernetes import make_addons
from cumulet.kubernetes.kubeadm_documents import make_containerd_config
from cumulet.site import kubeadm, kubeadm_nodes
from cumulet.site.actions import Fetch, Late, Plan, Put, Run, Step, Wait, count_steps, describe
from cumulet.site.facts import HostFacts, Member, NodeFacts, SiteFacts
from cumulet.site.model import SiteDocument, parse_site
from cumulet.site.parts import ROLE_LABELS, make_node
from cumulet.site.plan import list_paths, make_plan, make_system_files

ROLES = {"p1": "control", "p2": "master", "p3": "master", "p4": "worker", "p5": "worker"}
SECRETS = {
    "token": "abcdef.0123456789abcdef",
    "token-life": "1800",
    **{f"pki/{name}": f"SECRET {name}" for name in kubeadm_nodes.AUTHORITY},
    **{f"client{path}": f"SECRET {path}" for path in kubeadm_nodes.CLIENTS},
}


def make_site(extra: str = "") -> SiteDocument:
    lines = "".join(f"- {{name: {n}, address: 10.0.0.1{n[1]}, role: {role}}}\n" for n, role in ROLES.items())
    return parse_site(f"version: 1\nsite: pier-7\ndistribution: kubeadm\n{extra}nodes:\n{lines}", "s")


SITE = make_site()


@cache
def make_whole(site: SiteDocument = SITE) -> SiteFacts:
    """A site that is as its document says."""
    members = tuple(Member(node.name, node.name, node.address, False) for node in site.servers)
    hosts = {node.name: HostFacts(node.name) for node in site.nodes}
    known = {}
    for node in site.nodes:
        setup = kubeadm_nodes.make_setup(site, node, SiteFacts(hosts, members=members))
        texts = {**setup.files, **make_system_files(site, node)}
        texts[kubeadm_nodes.RUNTIME_CONFIG] = make_containerd_config(make_node(node, hosts[node.name]))
        files = {path: sha256_text(text.content) for path, text in texts.items() if path not in kubeadm_nodes.ONCE}
        keeps = node.role != "worker"
        units = frozenset(kubeadm_nodes.units_of(node))
        hosts[node.name] = HostFacts(node.name, active=units, made=True, etcd_data=keeps, files=files)
        label = ROLE_LABELS.get(node.role)
        roles = frozenset([label] if label else [])
        known[node.name] = NodeFacts(node.name, True, node.address, labels=roles, taints=roles)
    return SiteFacts(hosts, members=members, nodes=known, api=True, addons=kubeadm.make_manifests(site)[2])


def make_bare(**etcd_data: bool) -> SiteFacts:
    hosts = {node.name: HostFacts(node.name, etcd_data=etcd_data.get(node.name, False)) for node in SITE.nodes}
    return SiteFacts(hosts)


def change(facts: SiteFacts, name: str, **changes: Any) -> SiteFacts:
    return replace(facts, hosts={**facts.hosts, name: replace(facts.hosts[name], **changes)})


def say(facts: SiteFacts, name: str, **changes: Any) -> SiteFacts:
    return replace(facts, nodes={**facts.nodes, name: replace(facts.nodes[name], **changes)})


def lose_disk(facts: SiteFacts, name: str) -> SiteFacts:
    lost = change(facts, name, active=frozenset(), made=False, etcd_data=False, files={})
    return say(lost, name, ready=False)


def with_member(facts: SiteFacts, name: str, member: Member | None) -> SiteFacts:
    others = tuple(each for each in facts.members if each.address != f"10.0.0.1{name[1]}")
    return replace(facts, members=others if member is None else (*others, member))


def half_way(facts: SiteFacts, name: str, *, data: bool) -> SiteFacts:
    """Without the unit files being right: what a device looks like whose join was cut off."""
    return say(change(facts, name, active=frozenset(), made=False, etcd_data=data), name, ready=False)


def ids(plan: Plan) -> list[str]:
    return [step.id for phase in plan for step in phase.steps if not step.name.startswith(("system", "containers"))]


def plan_ids(facts: SiteFacts, prefix: str = "") -> list[str]:
    return [each for each in ids(make_plan(SITE, facts, {})) if each.startswith(prefix)]


def step_of(plan: Plan, name: str) -> Step:
    return next(step for phase in plan for step in phase.steps if step.id == name)


JOIN_P3 = [
    "masters.authority@p1",
    "masters.prepare@p3",
    "masters.add@p1",
    "masters.etcd@p3",
    "masters.promote@p1",
    "masters.serve@p3",
    "masters.ready@p2",
]


def test_bare_devices_become_a_site() -> None:
    assert plan_ids(make_bare()) == [
        "workers.prepare@p4",
        "workers.prepare@p5",
        "kubernetes.control@p1",
        *(each.replace("p3", "p2") for each in JOIN_P3[:-1]),
        "masters.addons@p2",
        "masters.control@p1",
        "masters.ready@p2",
        *JOIN_P3,
        "admission.token@p2",
        "workers.join@p4",
        "workers.join@p5",
        "settle.ready@p2",
        "settle.roles@p2",
        "settle.token@p2",
    ]


def test_phases_say_what_may_run_side_by_side() -> None:
    plan = make_plan(SITE, make_bare(), {})
    assert {phase.name: phase.at_once for phase in plan} == {
        "system": 8, "ahead": 8, "containers": 8, "kubernetes": 1, "masters": 1, "admission": 1, "workers": 8,
        "settle": 1,
    }  # fmt: skip
    assert count_steps(plan) == 5 + 5 + len(ids(plan))
    # Only what asks no cluster, on devices that no server waits for.
    (ahead,) = [phase for phase in plan if phase.beside]
    assert {step.host for step in ahead.steps} == {"p4", "p5"}
    assert set(ahead.beside) == {"containers", "kubernetes", "masters", "admission"}
    assert not [each for step in ahead.steps for each in step.actions if isinstance(each, Fetch | Wait)]
    assert not [each for step in ahead.steps for each in step.actions if isinstance(getattr(each, "content", ""), Late)]


def test_a_site_as_it_should_be_has_an_empty_plan() -> None:
    assert make_plan(SITE, make_whole(), {}) == ()


def test_all_files_that_a_plan_looks_at_are_asked_for() -> None:
    asked = list_paths(SITE, {})
    for name, host in make_whole().hosts.items():
        assert set(host.files) <= set(asked[name]), name


def test_a_master_is_a_learner_before_it_votes_and_serves_only_then() -> None:
    plan = make_plan(SITE, make_bare(), {})
    (add,) = step_of(plan, "masters.add@p1").actions
    assert isinstance(add, Run)
    assert add.argv == ("sh", "-s", "--", "add", "p2", "https://10.0.0.12:2380")
    promote, whole = (each for each in step_of(plan, "masters.promote@p1").actions if isinstance(each, Wait))
    assert promote.argv[-2:] == ("promote", "https://10.0.0.12:2380")
    assert whole.argv[-3:] == ("whole", "p1", "p2")


def test_the_last_master_is_in_when_all_three_are_members() -> None:
    plan = make_plan(SITE, make_bare(), {})
    promotes = [step for phase in plan for step in phase.steps if step.id == "masters.promote@p1"]
    last = promotes[-1].actions[-1]
    assert isinstance(last, Wait)
    assert last.argv[-4:] == ("whole", "p1", "p2", "p3")


def test_servers_never_join_side_by_side() -> None:
    whole = make_whole()
    for facts in (make_bare(), lose_disk(lose_disk(whole, "p3"), "p4"), lose_disk(whole, "p1")):
        for phase in make_plan(SITE, facts, {}):
            assert phase.at_once == 1 or not [step for step in phase.steps if step.name.startswith("masters")]


def test_a_learner_with_its_data_goes_on() -> None:
    facts = with_member(half_way(make_whole(), "p3", data=True), "p3", Member("3", "p3", "10.0.0.13", True))
    assert plan_ids(facts, "masters") == JOIN_P3
    step = step_of(make_plan(SITE, facts, {}), "masters.etcd@p3")
    assert step.why == "is half-way in"


def test_a_learner_that_was_added_and_never_started_goes_on_without_data() -> None:
    facts = with_member(half_way(make_whole(), "p3", data=False), "p3", Member("3", "", "10.0.0.13", True))
    assert plan_ids(facts, "masters") == JOIN_P3


@pytest.mark.parametrize("learner", [True, False])
def test_a_member_that_has_run_and_lost_its_data_leaves_etcd_first(learner: bool) -> None:
    facts = with_member(lose_disk(make_whole(), "p3"), "p3", Member("3", "p3", "10.0.0.13", learner))
    assert plan_ids(facts, "masters") == [JOIN_P3[0], "masters.forget@p1", *JOIN_P3[1:]]
    (remove,) = step_of(make_plan(SITE, facts, {}), "masters.forget@p1").actions
    assert isinstance(remove, Run)
    assert remove.argv[-2:] == ("remove", "https://10.0.0.13:2380")


def test_data_of_a_member_that_etcd_does_not_know_are_removed() -> None:
    facts = with_member(half_way(make_whole(), "p3", data=True), "p3", None)
    assert plan_ids(facts, "masters") == [JOIN_P3[0], "masters.wipe@p3", *JOIN_P3[1:]]


def test_data_are_never_removed_from_a_device_whose_member_etcd_counts_on() -> None:
    whole = make_whole()
    for name in ("p1", "p2", "p3"):
        for made in (True, False):
            facts = change(whole, name, made=made, active=frozenset(), files={})
            assert not plan_ids(facts, "masters.wipe"), (name, made)


def test_a_control_node_that_lost_its_disk_joins_the_masters() -> None:
    steps = plan_ids(lose_disk(make_whole(), "p1"), "masters")
    assert steps == [
        "masters.authority@p2",
        "masters.forget@p2",
        "masters.prepare@p1",
        "masters.add@p2",
        "masters.etcd@p1",
        "masters.promote@p2",
        "masters.serve@p1",
        "masters.ready@p2",
    ]
    assert not plan_ids(lose_disk(make_whole(), "p1"), "kubernetes")


def test_a_control_node_never_makes_a_second_authority() -> None:
    with pytest.raises(TargetError) as caught:
        make_plan(SITE, make_bare(p2=True, p3=True), {})
    assert caught.value.message == "p2, p3: has data of a cluster whose etcd does not answer, and p1 has none"
    assert caught.value.hint == "start the devices that keep it, or clear them: cumulet site reset"


def test_a_control_node_with_data_starts_what_it_has() -> None:
    assert plan_ids(make_bare(p1=True, p2=True), "kubernetes") == ["kubernetes.control@p1"]


def test_a_worker_half_way_in_joins_with_a_new_token() -> None:
    facts = change(make_whole(), "p5", made=False, active=frozenset())
    assert plan_ids(facts) == ["workers.prepare@p5", "admission.token@p2", "workers.join@p5", "settle.token@p2"]


def test_a_token_that_an_earlier_run_has_left_is_taken_away() -> None:
    assert plan_ids(replace(make_whole(), tokens=1)) == ["settle.token@p2"]


@pytest.mark.parametrize("name", ROLES)
def test_what_does_not_run_is_started(name: str) -> None:
    facts = make_whole()
    stopped = facts.hosts[name].active - {"kubelet"}
    prefix = {"control": "kubernetes", "master": "masters", "worker": "workers"}[ROLES[name]]
    plan = make_plan(SITE, change(facts, name, active=stopped), {})
    (step,) = [step for phase in plan for step in phase.steps]
    # The control node's is started when there is an API server.
    wanted = "masters.control@p1" if name == "p1" else f"{prefix}.start@{name}"
    assert (step.id, step.why) == (wanted, "not running: kubelet")


def test_changed_settings_restart_what_reads_them_and_a_balancer_is_reloaded() -> None:
    facts = make_whole()
    files = dict(facts.hosts["p4"].files)
    names = ("/etc/cumulet/kubernetes/haproxy.cfg", "/etc/cumulet/kubernetes/kubelet.yaml")
    plan = make_plan(SITE, change(facts, "p4", files={**files, **dict.fromkeys(names, "other")}), {})
    (step,) = [step for phase in plan for step in phase.steps]
    assert (step.id, step.why) == ("workers.settings@p4", "changed: haproxy.cfg, kubelet.yaml")
    assert [each.argv[1:] for each in step.actions if isinstance(each, Run)] == [
        ("reload-or-restart", "cumulet-balancer.service"),
        ("restart", "kubelet.service"),
    ]


def test_a_changed_document_changes_settings_and_lets_everybody_stay() -> None:
    steps = ids(make_plan(make_site("addons: [coredns]\n"), make_whole(), {}))
    assert steps == ["masters.addons@p2"]


def test_dns_has_two_copies_that_are_never_on_one_node_where_there_are_two() -> None:
    text = kubeadm.make_manifests(make_site())[0]
    assert "replicas: 2" in text and "requiredDuringSchedulingIgnoredDuringExecution" in text
    alone = "".join(each.content for each in make_addons(make_site().cluster).values())
    assert "podAntiAffinity" not in alone and "replicas: 2" not in alone


def test_labels_and_taints_follow_the_roles() -> None:
    facts = say(make_whole(), "p3", labels=frozenset(), taints=frozenset())
    (step,) = [step for phase in make_plan(SITE, facts, {}) for step in phase.steps]
    assert step.id == "settle.roles@p2"
    assert [each.argv[2:] for each in step.actions if isinstance(each, Run)] == [
        ("label", "--overwrite", "node", "p3", "node-role.kubernetes.io/control-plane="),
        ("taint", "--overwrite", "node", "p3", "node-role.kubernetes.io/control-plane=:NoSchedule"),
    ]


def test_no_secret_is_in_any_text_of_a_plan() -> None:
    plan = make_plan(SITE, make_bare(), {})
    names = set()
    for step in (step for phase in plan for step in phase.steps):
        for action in step.actions:
            text = describe(action) + repr(action)
            assert not [each for each in SECRETS.values() if len(each) > 6 and each in text]
            content = getattr(action, "content", None) or getattr(action, "input", None)
            if isinstance(content, Late):
                names.add(content.name)
                assert content.make(SECRETS)
                assert not isinstance(action, Put) or action.mode == 0o600 or action.path.endswith((".crt", ".pub"))
    assert {"a new token", "ca.key", "join.yaml: where to join, with which token"} <= names


def test_whatever_a_step_takes_out_of_the_vault_an_earlier_step_has_put_there() -> None:
    """A plan can be begun anywhere only if it reads again what it needs."""
    whole = make_whole()
    for facts in (make_bare(), lose_disk(whole, "p1"), lose_disk(whole, "p3"), lose_disk(whole, "p4")):
        vault = {"token": SECRETS["token"], "token-life": "1800"}
        for phase in make_plan(SITE, facts, {}):
            for action in (action for step in phase.steps for action in step.actions):
                content = getattr(action, "content", None) or getattr(action, "input", None)
                if isinstance(content, Late):
                    assert content.make(vault)
                if isinstance(action, Fetch) or (isinstance(action, Run) and action.into):
                    vault[action.into] = "SECRET"
