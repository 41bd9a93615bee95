"""The pure parts of hub and agent: amounts, selectors, paths, sums, placements, spreading, reports."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cumulet.central.agent.applier import Outcome, find_stale, make_applied
from cumulet.central.agent.feedback import make_value, read_conditions, read_values
from cumulet.central.agent.manifests import Manifest, Option, find_option, is_orphan, make_body, read_manifests
from cumulet.central.agent.reports import make_report, same_report
from cumulet.central.crds import make_agent_crds, make_hub_crds
from cumulet.central.hub.placing import NEEDS, choose, make_decisions
from cumulet.central.hub.records import Cluster, make_cluster, make_work
from cumulet.central.hub.spreading import get_owner, make_descent, make_work_body, measure, summarize
from cumulet.central.hub.sums import make_sums, write_values
from cumulet.central.hub.sums import read_values as read_counts
from cumulet.central.jsonpath import find_value, parse_path
from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import CONFIG_MAPS, DESCEND, make_condition, make_time, parse_time, same_condition
from cumulet.central.selectors import match_labels, match_one, parse_pairs

JOB: Json = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "status": {
        "succeeded": 3,
        "conditions": [{"type": "Suspended", "status": "False"}, {"type": "Complete", "status": "True"}],
    },
}


def make(name: str, **more: Any) -> Cluster:
    """A cluster that is accepted, joined and available, with what is given changed."""
    claims = [{"name": key, "value": value} for key, value in more.pop("claims", {}).items()]
    available = more.pop("available", "True")
    conditions = [
        {"type": "HubAcceptedManagedCluster", "status": "True"},
        {"type": "ManagedClusterJoined", "status": "True"},
        {"type": "ManagedClusterConditionAvailable", "status": available},
    ]
    status = {"clusterClaims": claims, "conditions": conditions, **more.pop("status", {})}
    spec = {"hubAcceptsClient": True, **more.pop("spec", {})}
    return make_cluster({"metadata": {"name": name, "uid": name, **more}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("In", ["a", "b"], True),
        ("NotIn", ["a"], False),
        ("Exists", [], True),
        ("DoesNotExist", [], False),
        ("Near", [], False),
    ],
)
def test_every_operator_of_selectors(operator: str, values: list[str], holds: bool) -> None:
    assert match_one({"key": "k", "operator": operator, "values": values}, {"k": "a"}) is holds


def test_an_empty_selector_selects_everything() -> None:
    assert match_labels({}, {}) and not match_labels({"matchLabels": {"a": "1"}}, {"a": "2"})


def test_conditions_for_people_are_pairs() -> None:
    assert parse_pairs("tier=edge, gpu=adreno-630,") == {"tier": "edge", "gpu": "adreno-630"}
    with pytest.raises(ValueError, match="'tier' is not a condition"):
        parse_pairs("tier")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (".status.succeeded", 3),
        ("{.status.succeeded}", 3),
        ("status.conditions[0].type", "Suspended"),
        ('.status.conditions[?(@.type=="Complete")].status', "True"),
        (".status['succeeded']", 3),
        (".status.conditions[-1].type", "Complete"),
        (".status.absent.deeper", None),
        (".status.conditions[7]", None),
    ],
)
def test_paths_lead_to_values(path: str, value: object) -> None:
    assert find_value(JOB, path) == value


def test_a_path_that_is_not_understood_is_refused() -> None:
    with pytest.raises(ValueError, match=r"is not understood from '\[\*\]' on"):
        parse_path(".items[*]")


def test_feedback_is_typed_and_small() -> None:
    values, wrong = read_values(
        JOB, [{"type": "WellKnownStatus"}, {"type": "JSONPaths", "jsonPaths": [{"name": "n", "path": "["}]}]
    )
    assert values == [
        {"name": "JobComplete", "fieldValue": {"type": "String", "string": "True"}},
        {"name": "JobSucceeded", "fieldValue": {"type": "Integer", "integer": 3}},
    ]
    assert len(wrong) == 1
    assert make_value([1]) == {"type": "JsonRaw", "jsonRaw": "[1]"}
    with pytest.raises(ValueError, match="neither text"):
        make_value(["x" * 2000])


def test_a_job_that_has_ended_is_complete() -> None:
    rules = [{"condition": "Complete", "type": "WellKnownConditions"}, {"condition": "Fine", "type": "CEL"}]
    complete, fine = read_conditions(JOB, rules, (), 2)
    assert (complete["status"], complete["observedGeneration"]) == ("True", 2)
    assert (fine["status"], fine["reason"]) == ("Unknown", "ConditionRuleInvalid")


def test_a_condition_keeps_the_time_of_its_last_change() -> None:
    old = {**make_condition("A", "True", "R", "m"), "lastTransitionTime": "2026-01-01T00:00:00Z"}
    assert make_condition("A", "True", "Other", "m", [old])["lastTransitionTime"] == "2026-01-01T00:00:00Z"
    assert make_condition("A", "False", "R", "m", [old])["lastTransitionTime"] != "2026-01-01T00:00:00Z"
    assert same_condition(old, make_condition("A", "True", "R", "m"))
    assert parse_time(make_time(micro=True)).tzinfo is not None


# --- sums and placements


def test_a_hub_says_the_sums_of_what_is_below_it() -> None:
    status = {"capacity": {"cpu": "4", "memory": "1Gi"}, "allocatable": {"cpu": "3500m"}}
    edges = [
        make("e1", claims={"gpu": "adreno-630", "tier": "edge", "id.k8s.io": "x"}, status=status),
        make("e2", claims={"gpu": "adreno-750", "tier": "edge"}, labels={"zone": "north"}, status=status),
        make("e3", claims={"gpu": "adreno-630"}, available="Unknown", status=status),
        make("no", spec={"hubAcceptsClient": False}),
    ]
    sums = make_sums(edges)
    assert sums.capacity == {"cpu": "8", "memory": "2097152Ki"}
    assert sums.claims["clusters.cumulet.io"] == "3" and sums.claims["available.cumulet.io"] == "2"
    assert sums.claims["values.cumulet.io/gpu"] == "adreno-630=2,adreno-750=1"
    assert "values.cumulet.io/id.k8s.io" not in sums.claims
    station = make("s1", claims=dict(sums.claims), status={"capacity": dict(sums.capacity)})
    above = make_sums([station, station])
    assert above.claims["clusters.cumulet.io"] == "6"
    assert above.claims["values.cumulet.io/gpu"] == "adreno-630=4,adreno-750=2"
    assert above.capacity == {"cpu": "16", "memory": "4194304Ki"}


def test_of_many_values_the_rest_is_one_number() -> None:
    text = write_values({f"v{index}": index + 1 for index in range(40)} | {"a=b": 5})
    counts = read_counts(text)
    assert sum(counts.values()) == sum(range(1, 41)) + 5 and counts["*"] > 5 and len(text) < 1024


def place(meta: Json | None = None, **spec: Any) -> Json:
    """A placement."""
    return {"metadata": {"name": "p", "namespace": "n", "uid": "u", **(meta or {})}, "spec": spec}


def where(**claims: str) -> list[Json]:
    """A predicate over claims."""
    wanted = [{"key": key, "operator": "In", "values": [value]} for key, value in claims.items()]
    return [{"requiredClusterSelector": {"claimSelector": {"matchExpressions": wanted}}}]


def test_a_placement_chooses_by_claims_and_leaves_out_the_silent() -> None:
    clusters = [
        make("a", claims={"gpu": "x"}),
        make("b", claims={"gpu": "y"}),
        make("c", claims={"gpu": "x"}, available="Unknown"),
        make("d", claims={"gpu": "x"}, spec={"taints": [{"key": "t", "effect": "NoSelect"}]}),
    ]
    assert choose(place(predicates=where(gpu="x")), clusters).names == ("a",)
    assert choose(
        place(predicates=where(gpu="x"), tolerations=[{"key": "t", "operator": "Exists"}]), clusters
    ).names == ("a", "d")


def test_a_cluster_that_falls_silent_stays_chosen() -> None:
    silent = [make("a", claims={"gpu": "x"}, available="Unknown")]
    assert choose(place(predicates=where(gpu="x")), silent, before={"a"}).names == ("a",)


def test_a_number_of_clusters_is_kept_steady() -> None:
    clusters = [make(f"c{index}") for index in range(20)]
    first = choose(place(numberOfClusters=3), clusters)
    assert len(first.names) == 3 and first.short == ""
    more = [*clusters, *[make(f"d{index}") for index in range(20)]]
    assert choose(place(numberOfClusters=3), more, first.names).names == first.names
    assert choose(place(numberOfClusters=30), clusters).short == "20 of 30 clusters were found"


def test_needs_are_held_against_what_is_allocatable() -> None:
    clusters = [
        make("a", status={"allocatable": {"cpu": "2"}}),
        make("b", status={"allocatable": {"cpu": "800m"}}),
        make("c"),
    ]
    needs = place({"annotations": {NEEDS: json.dumps({"cpu": "1"})}})
    assert choose(needs, clusters).names == ("a",)
    assert "is not an object of amounts" in choose(place({"annotations": {NEEDS: '["x"]'}}), clusters).wrong


def test_what_a_placement_asks_in_vain_is_said() -> None:
    cel = [{"requiredClusterSelector": {"celSelector": {"celExpressions": ["true"]}}}]
    assert choose(place(predicates=cel), [make("a")]).wrong == "celSelector is not supported by this hub"


def test_a_placement_that_descends_goes_to_hubs_that_have_what_it_wants() -> None:
    with_x = make("s1", claims={"hub.cumulet.io": "true", "values.cumulet.io/gpu": "x=2,y=1"})
    without = make("s2", claims={"hub.cumulet.io": "true", "values.cumulet.io/gpu": "y=1"})
    direct = make("e1", claims={"gpu": "x"})
    down = {"labels": {DESCEND: "true"}}
    assert choose(place(down, predicates=where(gpu="x")), [with_x, without, direct]).names == ("e1", "s1")
    assert choose(place(predicates=where(gpu="x")), [with_x, without, direct]).names == ("e1",)


def test_decisions_come_in_portions_and_at_least_one() -> None:
    assert [len(each) for each in make_decisions([f"c{index}" for index in range(250)])] == [100, 100, 50]
    assert make_decisions([]) == [[]]


# --- spreading


def replicas(**meta: Any) -> Json:
    """A replica set."""
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m", "namespace": "default"}}
    spec = {"manifestWorkTemplate": {"workload": {"manifests": [manifest]}}, "placementRefs": [{"name": "p"}]}
    return {"metadata": {"name": "task", "namespace": "tasks", **meta}, "spec": spec}


def test_a_hub_below_gets_placement_and_replica_set() -> None:
    down = replicas(labels={DESCEND: "true"})
    station = make("s1", claims={"hub.cumulet.io": "true"})
    body = make_work_body(down, [place(predicates=where(gpu="x"))], station)
    kinds = [each["kind"] for each in body["spec"]["workload"]["manifests"]]
    assert kinds == ["Namespace", "Placement", "ManifestWorkReplicaSet"]
    assert body["metadata"]["labels"][DESCEND] == "true"
    plain = make_work_body(down, [], make("e1"))
    assert plain["spec"] == down["spec"]["manifestWorkTemplate"]
    again = make_work_body(down, [], make("e2"))
    assert plain["metadata"]["annotations"] == again["metadata"]["annotations"] != body["metadata"]["annotations"]


def test_the_namespace_stays_when_a_work_that_descended_goes() -> None:
    spec = make_descent(replicas(), [place()])
    assert is_orphan(
        spec, Resource("", "v1", "namespaces", "Namespace", False), Manifest(0, spec["workload"]["manifests"][0])
    )
    assert measure(spec) < 2000


def test_an_owner_is_a_label_value_however_long_its_name() -> None:
    assert get_owner(replicas()) == "tasks.task"
    assert len(get_owner({"metadata": {"name": "x" * 80, "namespace": "n" * 63}})) <= 63


def test_a_summary_counts_clusters_and_what_hubs_have_counted() -> None:
    good = [{"type": "Applied", "status": "True", "observedGeneration": 2}, {"type": "Available", "status": "True"}]
    stale = [{"type": "Applied", "status": "True", "observedGeneration": 1}]
    meta = {"namespace": "c", "name": "w", "generation": 2, "labels": {DESCEND: "true"}}
    values = [{"name": "total", "fieldValue": {"integer": 5}}, {"name": "applied", "fieldValue": {"integer": 4}}]
    below = {"resourceMeta": {"kind": "ManifestWorkReplicaSet"}, "statusFeedback": {"values": values}, "conditions": []}
    works = [
        make_work({"metadata": {**meta, "labels": {}}, "status": {"conditions": good}}),
        make_work({"metadata": {**meta, "labels": {}}, "status": {"conditions": stale}}),
        make_work({"metadata": meta, "status": {"resourceStatus": {"manifests": [below]}}}),
        make_work({"metadata": {**meta, "deletionTimestamp": "now"}, "status": {}}),
    ]
    found = summarize(works, 2).as_status()
    assert (found["total"], found["applied"], found["available"], found["progressing"]) == (7, 5, 1, 1)


# --- manifests and reports


def map_of(name: str, **meta: str) -> Json:
    """A ConfigMap."""
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default", **meta}}


def test_manifests_are_ordered_and_each_fault_is_named() -> None:
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}
    found = read_manifests(
        {"workload": {"manifests": [map_of("a"), map_of("a"), {"x": 1}, map_of("b", generateName="c"), space]}},
        ["ConfigMap", "Namespace"],
    )
    assert [each.ordinal for each in found] == [4, 0, 1, 3, 2]
    wrong = {each.ordinal: each.wrong for each in found}
    assert wrong[0] == wrong[4] == ""
    assert wrong[1] == "is there twice, first as number 0"
    assert "apiVersion and kind" in wrong[2] and "generateName" in wrong[3]
    (huge,) = read_manifests(
        {"workload": {"manifests": [{**map_of("a"), "data": {"x": "y" * 600_000}}]}}, ["ConfigMap"]
    )
    assert "bytes; 512000 are allowed" in huge.wrong
    (other,) = read_manifests({"workload": {"manifests": [map_of("a")]}, "executor": {"subject": {}}}, ["ConfigMap"])
    assert other.wrong == "executor is not supported by this agent"


def test_options_are_found_by_what_they_name() -> None:
    identifier = {"group": "", "resource": "configmaps", "namespace": "default", "name": "a"}
    strategy = {"type": "ServerSideApply", "serverSideApply": {"fieldManager": "work-agent-x"}}
    spec = {"manifestConfigs": [{"resourceIdentifier": identifier, "updateStrategy": strategy}]}
    assert find_option(spec, CONFIG_MAPS, Manifest(0, map_of("a"))) == Option("ServerSideApply", False, "work-agent-x")
    assert find_option(spec, CONFIG_MAPS, Manifest(0, map_of("b"))) == Option()


def test_what_only_the_server_decides_is_not_sent() -> None:
    body = make_body(Manifest(0, {**map_of("a", uid="u", resourceVersion="7"), "status": {}}), {"uid": "o"})
    assert body == {**map_of("a"), "metadata": {"name": "a", "namespace": "default", "ownerReferences": [{"uid": "o"}]}}


def test_what_is_not_in_a_work_any_more_is_stale() -> None:
    outcomes = [Outcome(Manifest(0, map_of("a")), CONFIG_MAPS, Option(), uid="1", owned=True)]
    now = make_applied(outcomes)
    old = [{**now[0], "name": "b"}, now[0]]
    assert [each["name"] for each in find_stale(old, now)] == ["b"]
    assert make_applied([Outcome(Manifest(0, map_of("a")), CONFIG_MAPS, Option(), uid="1", owned=False)]) == []


def test_a_report_says_what_failed_and_is_sent_once() -> None:
    good = Outcome(Manifest(1, map_of("a")), CONFIG_MAPS, Option(), uid="1")
    bad = Outcome(Manifest(0, map_of("b")), CONFIG_MAPS, Option(), wrong="conflict with other")
    report = make_report([good, bad], [map_of("a"), None], {}, 3)
    first, second = report["resourceStatus"]["manifests"]
    assert first["conditions"][0]["message"] == "Failed to apply manifest: conflict with other"
    assert second["conditions"][0]["reason"] == "AppliedManifestComplete"
    assert {each["type"]: each["status"] for each in report["conditions"]} == {"Applied": "False", "Available": "False"}
    assert same_report(report, make_report([good, bad], [map_of("a"), None], report, 3))
    assert not same_report(report, make_report([good, bad], [map_of("a"), map_of("b")], report, 3))


def test_the_kinds_are_those_of_the_protocol() -> None:
    names = {each["metadata"]["name"] for each in (*make_hub_crds(), *make_agent_crds())}
    assert names == {
        "managedclusters.cluster.open-cluster-management.io",
        "placements.cluster.open-cluster-management.io",
        "placementdecisions.cluster.open-cluster-management.io",
        "clusterclaims.cluster.open-cluster-management.io",
        "manifestworks.work.open-cluster-management.io",
        "manifestworkreplicasets.work.open-cluster-management.io",
        "appliedmanifestworks.work.open-cluster-management.io",
        "managedclusteraddons.addon.open-cluster-management.io",
        "tasks.cumulet.dev",
    }
