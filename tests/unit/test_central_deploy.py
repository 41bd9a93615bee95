"""Tasks from the centre, without a cluster: objects of a hub, reports over tiers, jobs that make a model."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cumulet.central import Where, make_deployment, make_site_needs
from cumulet.central.deploy.status import make_deployment_status
from cumulet.central.deploy.training import check_job, judge, make_job, read_output
from cumulet.central.hub.records import make_work
from cumulet.central.hub.spreading import collect_reports, make_descent
from cumulet.central.kube import Json
from cumulet.central.protocol import DESCEND, PLACEMENTS, REPLICA_SETS
from cumulet.central.reports import (
    MOST_BYTES,
    Reports,
    SiteReport,
    find_reports,
    merge_reports,
    read_reports,
    write_reports,
)
from cumulet.core.errors import TargetError, UsageError
from cumulet.packing import Amounts
from cumulet.tasks import TaskProfile, parse_profile

MODEL = "cumulet.dev/models/yolo@sha256:" + "ab" * 32
MEASURED = "measured: {cpu: 20, gpu: 8, memory: 300MiB, cpus: 4, seconds: 60, gpu_seen: true}\n"


def make_task(extra: str = "") -> TaskProfile:
    return parse_profile(f"version: 1\ntask: detect\nimage: detect:1\ncpu: 15\ngpu: 10\n{extra}", "detect.yaml")


def make_sets(extra: str = "", **where: Any) -> tuple[Json, Json]:
    """Replica set and placement."""
    made = dict(make_deployment(make_task(extra), Where({"tier": "edge"}, **where)))
    return made[REPLICA_SETS], made[PLACEMENTS]


def test_what_was_measured_counts_and_percents_need_a_size_of_node() -> None:
    gib = 1 << 30
    assert make_site_needs(make_task()) == {"memory": "262144Ki", "cumulet.dev/gpu-percent": "10"}
    assert make_site_needs(make_task(), Amounts(8000, 100, 6 * gib))["cpu"] == "1200m"
    # 20 % of 4 processors and a tenth on top; the size of node does not matter any more.
    found = make_site_needs(make_task(MEASURED + "replicas: {least: 2}\n"), Amounts(8000, 100, 6 * gib))
    assert found == {"cpu": "1760m", "memory": "675840Ki", "cumulet.dev/gpu-percent": "18"}


def test_a_profile_becomes_a_placement_and_a_work_with_a_task() -> None:
    replicas, placement = make_sets(f"model: {MODEL}\n", labels={"place": "harbour"}, sites=3)
    (predicate,) = placement["spec"]["predicates"]
    assert predicate["requiredClusterSelector"] == {
        "claimSelector": {"matchExpressions": [{"key": "tier", "operator": "In", "values": ["edge"]}]},
        "labelSelector": {"matchLabels": {"place": "harbour"}},
    }
    assert placement["spec"]["numberOfClusters"] == 3
    assert json.loads(placement["metadata"]["annotations"]["cumulet.io/needs"])["memory"] == "262144Ki"
    space, task = replicas["spec"]["manifestWorkTemplate"]["workload"]["manifests"]
    assert (space["kind"], task["kind"], task["metadata"]) == (
        "Namespace",
        "Task",
        {"name": "detect", "namespace": "tasks"},
    )
    assert parse_profile(json.dumps(task["spec"]["profile"]), "x") == make_task(f"model: {MODEL}\n")
    descent = make_descent(replicas, [placement])
    assert {"name": "reports", "path": ".status.reports"} in descent["manifestConfigs"][0]["feedbackRules"][0][
        "jsonPaths"
    ]


def test_a_task_is_not_sent_everywhere_by_mistake() -> None:
    with pytest.raises(UsageError, match="detect: to which sites"):
        make_deployment(make_task(), Where())


def told(phase: str, message: str = "", **places: str) -> Json:
    """The status of a leaf's work, as its agent writes it."""
    values = [
        {"name": "phase", "fieldValue": {"type": "String", "string": phase}},
        {"name": "message", "fieldValue": {"type": "String", "string": message}},
        {"name": "ready", "fieldValue": {"type": "Integer", "integer": 1}},
        {"name": "wanted", "fieldValue": {"type": "Integer", "integer": 2}},
        {"name": "places", "fieldValue": {"type": "String", "string": json.dumps(places)}},
    ]
    meta = {"ordinal": 1, "kind": "Task", "group": "cumulet.dev"}
    return {
        "resourceStatus": {
            "manifests": [{"resourceMeta": meta, "conditions": [], "statusFeedback": {"values": values}}]
        }
    }


def passed_on(text: str, total: int) -> Json:
    """The status of a work that went to a hub below."""
    values = [{"name": "total", "fieldValue": {"type": "Integer", "integer": total}}]
    values += [{"name": "reports", "fieldValue": {"type": "String", "string": text}}] if text else []
    meta = {"ordinal": 2, "kind": "ManifestWorkReplicaSet", "group": "work.open-cluster-management.io"}
    return {
        "resourceStatus": {
            "manifests": [{"resourceMeta": meta, "conditions": [], "statusFeedback": {"values": values}}]
        }
    }


def make_works(status: dict[str, Json]) -> list[Any]:
    return [
        make_work({"metadata": {"name": "detect", "namespace": name, "labels": {DESCEND: "true"}}, "status": each})
        for name, each in status.items()
    ]


def test_reports_go_up_tier_by_tier_and_name_the_way_down() -> None:
    replicas, _ = make_sets()
    station = collect_reports(replicas, make_works({"pier-7": told("Running", p4="1/1"), "pier-8": {}}), {"pier-8"})
    works = make_works(
        {"station-1": passed_on(station, 2), "quay": told("Waiting", "no room"), "far": passed_on("", 0)}
    )
    top = read_reports(collect_reports(replicas, works, {"quay"}))
    assert dict(top.counts) == {"Waiting": 1, "Sent": 1, "Running": 1}
    assert dict(top.sites) == {
        "quay": SiteReport("Waiting", "no room", 1, 2, {}, silent=True),
        "station-1/pier-8": SiteReport("Sent", silent=True),
        "station-1/pier-7": SiteReport("Running", "", 1, 2, {"p4": "1/1"}),
    }
    assert works[0].feedback == {"total": 2}
    # A roll-out that is no task has no reports.
    other = {"spec": {"manifestWorkTemplate": {"workload": {"manifests": [{"kind": "ConfigMap", "apiVersion": "v1"}]}}}}
    assert collect_reports(other, works, ()) == ""


def test_a_site_that_cannot_take_a_task_says_why() -> None:
    conditions = [{"type": "Applied", "status": "False", "message": "kind cumulet.dev/Task is not among those"}]
    meta = {"ordinal": 1, "kind": "Task", "group": "cumulet.dev"}
    text = find_reports({"resourceStatus": {"manifests": [{"resourceMeta": meta, "conditions": conditions}]}})
    assert read_reports(text).sites[""] == SiteReport("Refused", "kind cumulet.dev/Task is not among those")


def test_of_very_many_sites_trouble_is_named_and_all_are_counted() -> None:
    parts = {
        f"c{n:04}": write_reports(Reports({"Running": 1}, {"": SiteReport("Running", "x" * 90)})) for n in range(900)
    }
    parts["zz"] = write_reports(Reports({"Failed": 1}, {"": SiteReport("Failed", "why")}))
    text = merge_reports(parts)
    found = read_reports(text)
    assert len(text) <= MOST_BYTES
    assert dict(found.counts) == {"Failed": 1, "Running": 900}
    assert next(iter(found.sites)) == "zz"
    assert found.left_out == 901 - len(found.sites) > 0
    # Put together again one tier higher, nothing is lost of the counts.
    assert dict(read_reports(merge_reports({"up": text})).counts) == {"Failed": 1, "Running": 900}


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"v": 2}', '{"v": 1, "counts": {"Running": "x"}, "sites": {}}', "x" * (MOST_BYTES + 1),
             '{"v": 1, "counts": {}, "sites": {"a": ["Lost", "", 0, 0, {}, 0]}}', "[" * 20000]
)  # fmt: skip
def test_what_is_no_report_is_refused_and_named(text: str) -> None:
    with pytest.raises(UsageError):
        read_reports(text)
    found = read_reports(merge_reports({"a": text})) if text else None
    assert found is None or found.sites["a"].phase == "Refused"


def test_the_status_says_what_is_wrong_and_when_all_is_well() -> None:
    replicas, placement = make_sets()
    assert not make_deployment_status(replicas, placement).settled
    reports = merge_reports({"a": write_reports(Reports({"Running": 1}, {"": SiteReport("Running")}))})
    replicas["status"] = {"summary": {"total": 1, "applied": 1}, "reports": reports}
    found = make_deployment_status(replicas, placement)
    assert (found.settled, found.done, found.problem, found.needs["memory"]) == (True, False, "", "262144Ki")
    empty = {"type": "PlacementSatisfied", "status": "False", "message": "no cluster matches"}
    placement["status"] = {"conditions": [empty]}
    assert make_deployment_status(replicas, placement).problem == "no cluster matches"
    assert "deploy it again" in make_deployment_status(replicas, None).problem


JOB = parse_profile("version: 1\ntask: train\nimage: trainer:1\ncpu: 50\nruns: once\ndeadline: 2h\n", "train.yaml")


def test_a_job_is_named_by_its_document_and_by_what_it_is_told() -> None:
    first, again, other = make_job(JOB, ""), make_job(JOB, ""), make_job(JOB, "weights of monday")
    assert first == again
    assert first["metadata"]["name"] != other["metadata"]["name"]
    assert first["spec"]["activeDeadlineSeconds"] == 7200
    (container,) = other["spec"]["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "CUMULET_INPUT", "value": "weights of monday"}]
    with pytest.raises(UsageError, match="detect: what makes a model has an end"):
        check_job(make_task())


def test_the_model_of_a_job_and_what_it_has_measured_come_into_the_profile() -> None:
    assert read_output(make_task(), f"{MODEL}\n", "j").model == MODEL
    measured = {"cpu": 12.5, "memory": "200MiB", "cpus": 8, "seconds": 30}
    found = read_output(make_task(), json.dumps({"model": MODEL, "measured": measured}), "j")
    assert found.measured is not None
    assert (found.model, found.measured.cpu) == (MODEL, 12.5)
    assert make_site_needs(found)["cpu"] == "1100m"
    for text, message in (
        ("", "did not say which model"),
        ("{", "neither a model nor JSON"),
        ("yolo", "'yolo' is no model"),
    ):
        with pytest.raises(TargetError, match=message):
            read_output(make_task(), text, "j")


def make_pod(phase: str, **state: Any) -> Json:
    return {"status": {"phase": phase, "containerStatuses": [{"state": state}]}}


def test_a_job_is_judged_by_its_pods() -> None:
    done = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    lost = {"status": {"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit"}]}}
    bad, good = (
        make_pod("Failed", terminated={"message": "no data"}),
        make_pod("Succeeded", terminated={"message": MODEL}),
    )
    assert judge(done, [bad, good]) == ("done", MODEL)
    assert judge(lost, [bad]) == ("failed", "backoff limit: no data")
    stuck = make_pod("Pending", waiting={"reason": "ImagePullBackOff", "message": "no such image"})
    assert judge({}, [stuck]) == ("runs", "cannot be started: ImagePullBackOff: no such image")
    assert [judge({}, [make_pod("Running")]), judge({}, [])] == [("runs", "runs"), ("runs", "waits for a node")]
