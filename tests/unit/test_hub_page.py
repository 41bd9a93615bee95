"""What the hub's page shows and makes, without a browser."""

from __future__ import annotations

from typing import Any

import pytest

from cumulet.central.hub.records import make_cluster
from cumulet.central.kube import Json
from cumulet.central.page.deploy import make_rollout, read_selector
from cumulet.central.page.view import MOST_SHOWN, find_images, make_rollouts, make_tiers, make_waiting
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
        {"a": 12.4},
    )
    assert [(tier["tier"], tier["total"]) for tier in found] == [("station", 1), ("edge", 4)]
    assert [row["name"] for row in found[1]["clusters"]] == ["z", "a", "b", "x"]
    assert found[1]["counts"] == {"unwell": 1, "ready": 3}
    assert found[1]["cpu"] == [6.0, 16.0]
    assert [(row["silence"], row["message"]) for row in found[1]["clusters"][:2]] == [(None, "why"), (12, "")]


def test_of_very_many_sites_the_first_are_shown_and_all_are_counted() -> None:
    (tier,) = make_tiers([cluster(f"c{n}") for n in range(MOST_SHOWN + 50)], {})
    assert (len(tier["clusters"]), tier["total"], tier["counts"]) == (MOST_SHOWN, MOST_SHOWN + 50, {"ready": 350})


def test_who_is_not_accepted_waits() -> None:
    clusters = {name: cluster(name, accepted=accepted) for name, accepted in (("in", True), ("out", False))}
    assert [(one["name"], one["keys"], one["requests"]) for one in make_waiting(clusters, [])] == [("out", [], 0)]


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
