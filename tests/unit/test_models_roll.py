"""A task switched to another model: one by one, each checked, back by itself, and gone on with after a kill."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.models import Switch, choose_way, return_model, roll_model
from cumulet.models.health import judge
from cumulet.models.prune import Held, find_pins, parse_held, plan_removal, read_pins
from cumulet.models.roll import HELD_SECONDS
from cumulet.packing import Amounts, Room, find_standard, make_plan
from cumulet.tasks import make_model_source, make_needs, make_workload, parse_profile

OLD, NEW, BAD = (f"cumulet.dev/models/yolo@sha256:{each * 64}" for each in "abc")
GIB = 1 << 30
TEXT = f"""\
version: 1
task: detect
image: detect:1
cpu: 15
model: {OLD}
replicas: {{least: 3}}
check: {{command: [python3, -m, check], accuracy: 0.9, latency: 100}}
"""
PROFILE = parse_profile(TEXT, "task.yaml")
UNCHECKED = parse_profile(TEXT.replace("check:", "environment: {A: b}\n#"), "task.yaml")


def merge(old: Any, new: Any) -> Any:
    """A merge patch."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}


class Cluster:
    """An API server with a Deployment controller that keeps `minReadySeconds` and `maxUnavailable`."""

    def __init__(self) -> None:
        rooms = [Room(f"p{number}", Amounts(8000, 100, 8 * GIB)) for number in range(1, 4)]
        decision = make_plan(make_needs([PROFILE], find_standard(rooms)), rooms).decisions[0]
        self.deployment = make_workload(PROFILE, decision, namespace="default")
        self.pods = [self.make_pod(OLD, number) for number in range(3)]
        self.answers: dict[str, dict[str, Any]] = {
            OLD: {"accuracy": 0.95, "latency": 20}, NEW: {"accuracy": 0.97, "latency": 25},
            BAD: {"accuracy": 0.42, "latency": 25},
        }  # fmt: skip
        self.never_ready: set[str] = set()
        self.bad_nodes: set[str] = set()
        self.checks: dict[str, dict[str, Any]] = {}
        self.most_missing = 0
        self.kill_after = 10**9
        self.made = 0

    def make_pod(self, model: str, number: int, *, ready: bool = True) -> dict[str, Any]:
        return {
            "metadata": {"name": f"{model[-3:]}-{number}", "annotations": {"cumulet.dev/model": model}},
            "spec": {"nodeName": f"p{number % 3 + 1}"},
            "status": {
                "conditions": [{"type": "Ready", "status": "True" if ready else "False", "message": "starting"}]
            },
        }

    def control(self) -> None:
        """What the controllers do in a moment."""
        spec = self.deployment["spec"]
        wanted = spec["template"]["metadata"]["annotations"]["cumulet.dev/model"]
        held = spec.get("minReadySeconds", 0) == HELD_SECONDS
        for pod in self.pods:
            if pod["metadata"]["annotations"]["cumulet.dev/model"] not in self.never_ready:
                pod["status"]["conditions"][0]["status"] = "True"
        new = [pod for pod in self.pods if pod["metadata"]["annotations"]["cumulet.dev/model"] == wanted]
        unavailable = [pod for pod in new if held or pod["status"]["conditions"][0]["status"] != "True"]
        room = spec["strategy"]["rollingUpdate"]["maxUnavailable"] - len(unavailable)
        for place, pod in enumerate(self.pods):
            if room > 0 and pod not in new:
                self.made += 1
                number = int(pod["metadata"]["name"][-1])
                self.pods[place] = self.make_pod(wanted, number, ready=False)
                room -= 1
        missing = sum(pod["status"]["conditions"][0]["status"] != "True" for pod in self.pods)
        self.most_missing = max(self.most_missing, missing)

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if self.made >= self.kill_after:
            raise KeyboardInterrupt
        if path.endswith("/deployments/detect"):
            if method == "PATCH":
                self.deployment = merge(self.deployment, body)
            return copy.deepcopy(self.deployment)
        if path.endswith("/pods") and method == "GET":
            self.control()
            return {"items": copy.deepcopy(self.pods)}
        if method == "POST":
            self.checks[body["metadata"]["name"]] = body
            return dict(body)
        name = path.rpartition("/")[2]
        if method == "DELETE":
            del self.checks[name]
            return {}
        pod = self.checks[name]
        reference = pod["spec"]["volumes"][-1]["image"]["reference"]
        answer = dict(self.answers[reference])
        if pod["spec"]["nodeName"] in self.bad_nodes:
            answer["latency"] = 250
        ended = {"exitCode": 0, "message": json.dumps(answer)}
        return {"status": {"containerStatuses": [{"state": {"terminated": ended}}]}}

    @property
    def models(self) -> set[str]:
        """What the containers have."""
        return {pod["metadata"]["annotations"]["cumulet.dev/model"] for pod in self.pods}


def make_switch(cluster: Cluster, model: str = NEW, **more: Any) -> Switch:
    return Switch(
        cluster, more.pop("profile", PROFILE), model, "image", "default", more.pop("tell", print), pause=0, **more
    )


def test_one_after_the_other_is_replaced_and_checked_and_a_second_run_does_nothing() -> None:
    cluster = Cluster()
    told: list[str] = []
    done = asyncio.run(roll_model(make_switch(cluster, tell=told.append)))
    assert (done.changed, done.returned, done.before, done.after) == (True, False, OLD, NEW)
    assert cluster.models == {NEW}
    assert [each.node for each in done.checks] == ["p1", "p2", "p3"]
    assert told == [f"p{number}: accuracy 0.97, latency 25 ms" for number in (1, 2, 3)]
    assert (cluster.most_missing, cluster.checks) == (1, {})
    spec = cluster.deployment["spec"]
    assert (spec["minReadySeconds"], spec["strategy"]["rollingUpdate"]["maxUnavailable"]) == (0, 1)
    assert spec["template"]["spec"]["volumes"] == [
        {"name": "model", "image": {"reference": NEW, "pullPolicy": "Never"}}
    ]
    again = asyncio.run(roll_model(make_switch(cluster)))
    assert (again.changed, again.checks) == (False, ())


def test_a_bad_model_comes_back_by_itself_after_the_first_container() -> None:
    cluster = Cluster()
    done = asyncio.run(roll_model(make_switch(cluster, BAD)))
    assert (done.changed, done.returned) == (True, True)
    assert done.reason == "p1: accuracy 0.42, at least 0.9 is wanted"
    assert cluster.models == {OLD}
    assert cluster.made == 2
    assert cluster.deployment["spec"]["minReadySeconds"] == 0
    # The volume is the very one that the task had.
    volumes = cluster.deployment["spec"]["template"]["spec"]["volumes"]
    assert volumes == [{"name": "model", "image": {"reference": OLD, "pullPolicy": "Never"}}]


def test_a_node_on_which_it_is_too_slow_brings_all_of_them_back() -> None:
    cluster = Cluster()
    cluster.bad_nodes = {"p3"}
    done = asyncio.run(roll_model(make_switch(cluster)))
    assert done.reason == "p3: latency 250 ms, at most 100 ms is wanted"
    assert [each.good for each in done.checks] == [True, True, False]
    assert cluster.models == {OLD}


def test_a_model_that_does_not_start_comes_back() -> None:
    cluster = Cluster()
    cluster.never_ready = {NEW}
    done = asyncio.run(roll_model(make_switch(cluster, seconds=0.05)))
    assert done.returned
    assert done.reason == "not ready after 0 s with yolo@bbbbbbbbbbbb: starting"
    assert cluster.models == {OLD}


def test_a_task_without_a_check_is_switched_when_its_containers_are_ready() -> None:
    cluster = Cluster()
    told: list[str] = []
    done = asyncio.run(roll_model(make_switch(cluster, profile=UNCHECKED, tell=told.append)))
    assert (done.returned, done.checks, cluster.models) == (False, (), {NEW})
    assert told[0] == "p1: ready with yolo@bbbbbbbbbbbb; there is nothing to check it by"


@pytest.mark.parametrize(("model", "moment"), [(NEW, 1), (NEW, 2), (NEW, 3), (BAD, 1), (BAD, 2)])
def test_a_switch_whose_program_was_killed_is_gone_on_with(model: str, moment: int) -> None:
    cluster = Cluster()
    cluster.bad_nodes = set() if model == NEW else {"p1"}
    cluster.kill_after = moment
    with pytest.raises(KeyboardInterrupt):
        asyncio.run(roll_model(make_switch(cluster, model)))
    cluster.kill_after = 10**9
    done = asyncio.run(roll_model(make_switch(cluster, model)))
    assert cluster.models == ({NEW} if model == NEW else {OLD})
    assert cluster.deployment["spec"]["minReadySeconds"] == 0
    assert done.before == OLD


def test_back_by_hand() -> None:
    cluster = Cluster()
    with pytest.raises(TargetError, match="detect: has had no other model"):
        asyncio.run(return_model(make_switch(cluster)))
    asyncio.run(roll_model(make_switch(cluster)))
    # One that failed in between does not count: the task has never really had it.
    assert asyncio.run(roll_model(make_switch(cluster, BAD))).returned
    for before, after in ((NEW, OLD), (OLD, NEW)):
        done = asyncio.run(return_model(make_switch(cluster)))
        assert (done.before, done.after, cluster.models) == (before, after, {after})
    assert "cumulet.dev/model-from" not in {
        key for key, text in cluster.deployment["metadata"]["annotations"].items() if text is not None
    }


def test_a_task_without_a_model_cannot_be_switched() -> None:
    cluster = Cluster()
    del cluster.deployment["spec"]["template"]["metadata"]["annotations"]
    with pytest.raises(TargetError, match="detect: has no model to switch"):
        asyncio.run(roll_model(make_switch(cluster)))


@pytest.mark.parametrize(
    ("code", "message", "text"),
    [
        (0, '{"accuracy": 0.9, "latency": 100}', "accuracy 0.9, latency 100 ms"),
        (0, '{"accuracy": 0.95}', "latency not told ms, at most 100 ms is wanted"),
        (0, "fine", "check: says 'fine' instead of accuracy and latency as JSON"),
        (0, '{"accuracy": "high"}', 'check: says \'{"accuracy": "high"}\' instead of accuracy and latency as JSON'),
        (3, "Traceback\nValueError: shape\n", "check failed: ValueError: shape"),
        (137, "", "check failed: exit code 137"),
    ],
)
def test_what_a_check_says(code: int, message: str, text: str) -> None:
    health = judge(PROFILE, "p1", code, message)
    assert (health.text, health.good) == (text, code == 0 and "100}" in message)


def test_the_way_of_a_model_depends_on_the_free_space() -> None:
    assert (choose_way(1 * GIB, 10 * GIB).way, choose_way(1 * GIB, 10 * GIB).cost) == ("image", 2 * GIB)
    assert choose_way(4 * GIB, 10 * GIB).way == "image"
    assert (choose_way(5 * GIB, 10 * GIB).way, choose_way(5 * GIB, 10 * GIB).cost) == ("store", 5 * GIB)
    with pytest.raises(TargetError, match="a model of 9728 MiB has no room: 10240 MiB are free"):
        choose_way(9728 << 20, 10 * GIB)
    with pytest.raises(TargetError):
        choose_way(1, 0)
    assert make_model_source("store", NEW) == {
        "hostPath": {"path": f"/var/lib/cumulet/packages/yolo/{'b' * 64}", "type": "Directory"}
    }


LISTED = f"""\
image {OLD} sha256:{"a" * 64} 9.5 MiB
image cumulet.dev/models/yolo:8.1 sha256:{"a" * 64} 9.5 MiB
image {NEW} sha256:{"b" * 64} 1.0 GiB
store yolo {"c" * 64} 2048
"""


def test_models_that_are_pinned_stay() -> None:
    held = parse_held("p1", LISTED)
    assert held == [
        Held("p1", OLD, ("cumulet.dev/models/yolo:8.1", OLD), int(9.5 * (1 << 20))),
        Held("p1", NEW, (NEW,), GIB),
        Held("p1", BAD, (f"yolo/{'c' * 64}",), 2048 << 10),
    ]
    assert plan_removal(held, {NEW}) == [held[0], held[2]]
    assert plan_removal(held, {"cumulet.dev/models/yolo:8.1", BAD, NEW}) == []


def test_pins_are_what_tasks_have_and_have_had() -> None:
    cluster = Cluster()
    asyncio.run(roll_model(make_switch(cluster)))
    assert find_pins(cluster.deployment) == {OLD, NEW}
    pod = {"metadata": {}, "spec": {"volumes": [{"name": "x", "image": {"reference": BAD}}, {"name": "y"}]}}

    class Lists:
        async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
            return {"items": [cluster.deployment] if "deployments" in path else [pod] if "pods" in path else []}

    assert asyncio.run(read_pins(Lists())) == {OLD, NEW, BAD}
