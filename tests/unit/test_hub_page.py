"""What the hub's page shows and makes, without a browser."""

from __future__ import annotations

from typing import Any

import pytest

from cumulet.central.hub.records import make_cluster
from cumulet.central.kube import Json
from cumulet.central.page.deploy import make_rollout, read_selector
from cumulet.central.page.usage import make_details, make_summary, make_usage
from cumulet.central.page.view import MOST_SHOWN, Heard, find_images, make_rollouts, make_tiers, make_waiting
from cumulet.central.pulse import LinkPulse, Pulse, TaskPulse
from cumulet.core.errors import UsageError


def cluster(name: str, tier: str = "", available: str = "True", accepted: bool = True) -> Any:
    conditions = [
        {"type": "ManagedClusterJoined", "status": "True"},
        {"type": "ManagedClusterConditionAvailable", "status": available, "message": "why"},
    ]
    claims = [{"name": "tier", "value": tier}] if tier else []
    status = {
        "conditions": conditions,
        "clusterClaims": claims,
        "capacity": {"cpu": "4"},
        "allocatable": {"cpu": "1500m"},
    }
    return make_cluster({"metadata": {"name": name}, "spec": {"hubAcceptsClient": accepted}, "status": status})


def test_the_map_has_the_highest_tier_first_and_trouble_before_what_is_well() -> None:
    found = make_tiers(
        [
            cluster("b"),
            cluster("a", "edge"),
            cluster("z", "edge", "False"),
            cluster("s", "station"),
            cluster("x", "moon"),
        ],
        lambda name: Heard(12.4 if name == "a" else None),
    )
    assert [(tier["tier"], tier["total"]) for tier in found] == [("station", 1), ("edge", 4)]
    assert [row["name"] for row in found[1]["clusters"]] == ["z", "a", "b", "x"]
    assert found[1]["counts"] == {"unwell": 1, "ready": 3}
    assert found[1]["cpu"] == [6.0, 16.0]
    assert [(row["silence"], row["message"]) for row in found[1]["clusters"][:2]] == [(None, "why"), (12, "")]


def test_of_very_many_sites_the_first_are_shown_and_all_are_counted() -> None:
    (tier,) = make_tiers([cluster(f"c{n}") for n in range(MOST_SHOWN + 50)], lambda name: Heard())
    assert (len(tier["clusters"]), tier["total"], tier["counts"]) == (MOST_SHOWN, MOST_SHOWN + 50, {"ready": 350})


def test_who_is_not_accepted_waits() -> None:
    clusters = {name: cluster(name, accepted=accepted) for name, accepted in (("in", True), ("out", False))}
    assert [(one["name"], one["keys"], one["requests"]) for one in make_waiting(clusters, [])] == [("out", [], 0)]


PULSE = Pulse(
    at=1000,
    load=(31, 60, 44),
    nodes=(4, 5),
    window=(5000, 1800),
    windows=1,
    spool=(3, 15),
    tasks=(
        TaskPulse("default/count", 1, 1, 1, 1, 120, 64),
        TaskPulse("default/detect", 2, 4, 3, 3, 2600, 900, {"yolo@1": 1, "yolo@2": 2}, 1),
    ),
    links={"beidou": LinkPulse(0, 1, 0, 3), "5g": LinkPulse(1, 0, 0, 61)},
)


def test_a_card_says_what_is_missing_which_links_there_are_and_when_it_is_quiet() -> None:
    found = make_summary(PULSE, 1200.0)
    assert found is not None
    assert (found["nodes"], found["tasks"], found["short"], found["age"]) == ([4, 5], 2, 1, 0)
    assert (found["window"], found["waiting"]) == ([5000, 6800], [3, 15])
    assert [(link["kind"], link["used"], link["signal"]) for link in found["links"]] == [
        ("5g", 1, 61),
        ("beidou", 0, 3),
    ]
    old = make_summary(PULSE, 1900.0)
    assert old is not None
    assert old["age"] == 900
    assert make_summary(None, 0.0) is None


def test_tasks_are_shown_with_usage_and_models_those_that_lack_something_first() -> None:
    found = make_usage(PULSE)
    assert [task["name"] for task in found["tasks"]] == ["default/detect", "default/count"]
    detect = found["tasks"][0]
    assert (detect["cpu"], detect["memory"], detect["changing"], detect["sites"]) == (2.6, 900 << 20, 1, 2)
    assert detect["models"] == [{"model": "yolo@2", "sites": 2}, {"model": "yolo@1", "sites": 1}]
    assert make_usage(None)["tasks"] == []
    assert make_details(None, "not a pulse") == {"tasks": [], "left_out": 0, "problem": "not a pulse"}
    assert len(make_details(PULSE, "")["tasks"]) == 2


FORM: Json = {"name": "detect", "image": "hub.example/detect:3", "replicas": 2, "selector": "tier=edge, gpu=a"}


def test_a_form_becomes_a_placement_and_a_replica_set() -> None:
    placement, rollout = make_rollout({**FORM, "cpu": "2", "kind": "Job"})
    (predicate,) = placement["spec"]["predicates"]
    assert predicate["requiredClusterSelector"]["claimSelector"]["matchExpressions"] == [
        {"key": "tier", "operator": "In", "values": ["edge"]},
        {"key": "gpu", "operator": "In", "values": ["a"]},
    ]
    job = rollout["spec"]["manifestWorkTemplate"]["workload"]["manifests"][1]
    assert (job["kind"], job["spec"]["completions"], job["spec"]["template"]["spec"]["restartPolicy"]) == (
        "Job",
        2,
        "OnFailure",
    )
    assert job["spec"]["template"]["spec"]["containers"][0]["resources"] == {"requests": {"cpu": "2"}}
    (shown,) = make_rollouts([{**rollout, "status": {"summary": {"total": 3, "applied": 2, "available": 1}}}])
    assert (shown["images"], shown["total"], shown["applied"], shown["available"], shown["degraded"]) == (
        ["hub.example/detect:3"],
        3,
        2,
        1,
        0,
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "Detect"}, "name: 'Detect' is not a name"),
        ({"image": "a b"}, "image: 'a b' is not an image"),
        ({"kind": "Pod"}, "kind: 'Pod' is not one of Deployment, Job"),
        ({"replicas": 0}, "replicas: must be 1 to 1000"),
        ({"replicas": "2"}, "replicas: must be 1 to 1000"),
        ({"selector": "tier"}, "selector: 'tier' is not name=value"),
        ({"selector": " , "}, "selector: name at least one claim"),
    ],
)
def test_a_form_that_cannot_be_is_named(change: Json, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make_rollout({**FORM, **change})


def test_models_mounted_as_images_are_shown_too() -> None:
    volume = {"name": "m", "image": {"reference": "hub.example/model@sha256:1"}}
    assert find_images([{"kind": "Pod", "spec": {"containers": [{"image": "a"}], "volumes": [volume]}}]) == [
        "a",
        "hub.example/model@sha256:1",
    ]
    assert read_selector({"selector": "a=b"})["claimSelector"]["matchExpressions"][0]["key"] == "a"
