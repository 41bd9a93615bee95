"""Tasks in a cluster: the edge read from an API server, objects made, started in order, compared with the plan."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.packing import Amounts, Room, find_standard, make_plan
from cumulet.tasks import (
    TaskProfile,
    make_autoscaler,
    make_edge,
    make_needs,
    make_workload,
    parse_profile,
    read_edge,
    read_places,
    submit,
)
from cumulet.tasks.cluster import sum_requests

DIGEST = "sha256:" + "ab" * 32
GIB = 1 << 30


class MissingError(TargetError):
    """What an API server says of a path that it does not have."""

    status = 404


def make_profile(name: str, extra: str = "", cpu: float = 15) -> TaskProfile:
    return parse_profile(f"version: 1\ntask: {name}\nimage: {name}:1\ncpu: {cpu}\n{extra}", f"{name}.yaml")


def make_node(name: str, **more: Any) -> dict[str, Any]:
    allocatable = {"cpu": "8", "memory": "8Gi", "ephemeral-storage": "40Gi", "cumulet.dev/gpu-percent": "100"}
    return {
        "metadata": {"name": name, "labels": more.get("labels", {}), "annotations": more.get("notes", {})},
        "spec": more.get("spec", {}),
        "status": {
            "allocatable": more.get("allocatable", allocatable),
            "conditions": [{"type": "Ready", "status": more.get("ready", "True")}],
        },
    }


def make_pod(name: str, node: str, cpu: str = "100m", memory: str = "70Mi", **labels: str) -> dict[str, Any]:
    resources = {"requests": {"cpu": cpu, "memory": memory}}
    return {
        "metadata": {"name": name, "labels": {f"cumulet.dev/{key}": text for key, text in labels.items()}},
        "spec": {"nodeName": node, "containers": [{"resources": resources}]},
        "status": {"phase": "Running"},
    }


def test_an_edge_is_read_from_what_the_cluster_says() -> None:
    notes = {
        "edge.cumulet.dev/renderer": "Adreno 630",
        "edge.cumulet.dev/gpu-speed": "41.5",
        "edge.cumulet.dev/runtimes": "ncnn,onnxruntime",
    }
    nodes = [
        make_node("p4", notes=notes),
        make_node(
            "p2",
            labels={"node-role.kubernetes.io/control-plane": ""},
            allocatable={"cpu": "3900m", "memory": "3991988Ki"},
        ),
        make_node("p5", ready="False"),
        make_node("p6", spec={"taints": [{"key": "x", "effect": "NoSchedule"}]}),
        make_node("p7", spec={"unschedulable": True}),
    ]
    done = make_pod("done", "p4", "4")
    done["status"]["phase"] = "Succeeded"
    pods = [
        make_pod("dns", "p4"),
        make_pod("a-1", "p4", "1200m", "512Mi", task="a", place="shares"),
        make_pod("b-1", "p2", "3", "1Gi", task="b", place="whole"),
        done,
    ]
    metrics = [{"metadata": {"name": "p4"}, "usage": {"cpu": "812345678n", "memory": "2097152Ki"}}]
    edge = make_edge("pier-7", nodes, pods, metrics, {"p4": 40 << 30})
    p2, p4 = edge.nodes
    assert (p2.name, p2.role, p2.cpus, p2.memory, p2.gpu, p2.whole) == ("p2", "master", 3.9, "3898MiB", None, "b")
    assert p4.gpu is not None
    assert (p4.gpu.renderer, p4.gpu.speed, p4.runtimes) == ("Adreno 630", 41.5, ("ncnn", "onnxruntime"))
    assert (p4.load.cpu, p4.load.memory, p4.tasks, p4.disk) == (10.2, 25.0, ("a",), "40GiB")
    assert p4.room == Room("p4", Amounts(8000, 100, 8 * GIB), Amounts(1300, 0, 582 << 20), ("a",))


def test_containers_that_run_before_the_others_count_if_they_are_bigger() -> None:
    pod = make_pod("x", "p1", "200m", "1Gi")
    pod["spec"]["initContainers"] = [{"resources": {"requests": {"cpu": "1500m", "memory": "10Mi"}}}]
    assert sum_requests([pod]) == Amounts(1500, 0, GIB)


ROOMS = [Room(f"p{number}", Amounts(8000, 100, 8 * GIB)) for number in range(1, 4)]


def decide(profile: TaskProfile) -> Any:
    return make_plan(make_needs([profile], find_standard(ROOMS)), ROOMS).decisions[0]


def test_a_task_that_shares_asks_for_its_share_and_goes_where_it_is_fullest() -> None:
    model = f"model: cumulet.dev/models/yolo@{DIGEST}\n"
    profile = make_profile("detect", f"gpu: 10\nmemory: 512MiB\n{model}data: {{input: /srv/in}}\n")
    made = make_workload(profile, decide(profile), namespace="default")
    assert (made["kind"], made["spec"]["replicas"]) == ("Deployment", 1)
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    template = made["spec"]["template"]
    assert template["metadata"]["labels"] == {"cumulet.dev/task": "detect", "cumulet.dev/place": "shares"}
    spec = template["spec"]
    assert (spec["schedulerName"], "affinity" in spec) == ("cumulet-packing", False)
    assert {each["tolerationSeconds"] for each in spec["tolerations"]} == {30}
    container = spec["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "1200m", "memory": "524288Ki", "cumulet.dev/gpu-percent": "10"},
        "limits": {"memory": "655360Ki", "cumulet.dev/gpu-percent": "10"},
    }
    assert spec["volumes"] == [
        {"name": "input", "hostPath": {"path": "/srv/in", "type": "DirectoryOrCreate"}},
        {"name": "model", "image": {"reference": f"cumulet.dev/models/yolo@{DIGEST}", "pullPolicy": "Never"}},
    ]
    assert [each["mountPath"] for each in container["volumeMounts"]] == ["/data/in", "/models/yolo"]


def test_a_task_with_a_node_to_itself_keeps_all_others_away() -> None:
    profile = make_profile("detect", cpu=60)
    made = make_workload(profile, decide(profile), namespace="default")
    spec = made["spec"]["template"]["spec"]
    term = spec["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0]
    assert term["labelSelector"]["matchExpressions"] == [{"key": "cumulet.dev/task", "operator": "Exists"}]
    assert (term["topologyKey"], term["namespaceSelector"]) == ("kubernetes.io/hostname", {})
    assert made["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}


def test_what_runs_once_is_a_job_with_its_deadline() -> None:
    profile = make_profile("count", "runs: once\ndeadline: 10m\n")
    made = make_workload(profile, decide(profile), namespace="edge")
    assert (made["kind"], made["spec"]["activeDeadlineSeconds"]) == ("Job", 600)
    assert made["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_the_number_of_containers_follows_the_load_only_if_the_profile_says_so() -> None:
    assert make_autoscaler(make_profile("fixed", "replicas: {least: 3}\n"), namespace="default") is None
    profile = make_profile("grows", "replicas: {least: 1, most: 5, target: 60, calm: 2m}\n")
    scaler = make_autoscaler(profile, namespace="default")
    assert scaler is not None
    spec = scaler["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"], spec["scaleTargetRef"]["name"]) == (1, 5, "grows")
    assert spec["metrics"][0]["resource"]["target"]["averageUtilization"] == 60
    assert spec["behavior"]["scaleDown"]["stabilizationWindowSeconds"] == 120
    # Two who both say how many there are would undo each other.
    assert "replicas" not in make_workload(profile, decide(profile), namespace="default")["spec"]


class Cluster:
    """An API server with a scheduler that puts every pod on the fullest node with room."""

    def __init__(self, nodes: int, *, spread: bool = False) -> None:
        self.nodes = [make_node(f"p{number}") for number in range(1, nodes + 1)]
        self.pods: list[dict[str, Any]] = []
        self.applied: list[str] = []
        self.spread = spread

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if method == "GET" and path == "/api/v1/nodes":
            return {"items": self.nodes}
        if method == "GET" and path.endswith("/pods"):
            wanted = more.get("query", {}).get("labelSelector", "").partition("=")[2]
            return {
                "items": [pod for pod in self.pods if wanted in ("", pod["metadata"]["labels"]["cumulet.dev/task"])]
            }
        if method == "PATCH":
            self.applied.append(body["metadata"]["name"])
            if any(pod["metadata"]["labels"]["cumulet.dev/task"] == body["metadata"]["name"] for pod in self.pods):
                return dict(body)
            for _ in range(body["spec"].get("replicas", 1) if body["kind"] != "HorizontalPodAutoscaler" else 0):
                self.schedule(body["spec"]["template"])
            return dict(body)
        raise MissingError(f"{method} {path}")

    def schedule(self, template: dict[str, Any]) -> None:
        labels = template["metadata"]["labels"]
        resources = template["spec"]["containers"][0]["resources"]
        fits = []
        for node in self.nodes:
            here = [pod for pod in self.pods if pod["spec"].get("nodeName") == node["metadata"]["name"]]
            apart = labels["cumulet.dev/place"] == "whole" or any(
                pod["metadata"]["labels"]["cumulet.dev/place"] == "whole" for pod in here
            )
            used = sum_requests(here) + sum_requests([{"spec": {"containers": [{"resources": resources}]}}])
            if used.cpu <= 8000 and not (here and apart):
                fits.append((used.cpu, node["metadata"]["name"]))
        chosen = (min if self.spread else max)(fits, default=(0, None))[1]
        spec = {"containers": [{"resources": resources}], **({"nodeName": chosen} if chosen else {})}
        conditions = (
            [] if chosen else [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
        )
        status = {"phase": "Pending", "conditions": conditions}
        self.pods.append({"metadata": {"name": f"{len(self.pods)}", "labels": labels}, "spec": spec, "status": status})


TASKS = [
    *(make_profile(f"small-{number}") for number in range(3)),
    make_profile("big", cpu=60),
    make_profile("two", "replicas: {least: 2}\n", 12),
]


def test_tasks_are_started_in_the_order_of_their_plan_and_found_where_it_says() -> None:
    cluster = Cluster(3)
    done = asyncio.run(submit(cluster, TASKS))
    assert cluster.applied[0] == "big"
    assert done.differences == ()
    assert len({done.places[f"small-{number}"] for number in range(3)} | {done.places["two-1"]}) == 1
    assert done.places["big"] not in {node for name, node in done.places.items() if name != "big"}


def test_tasks_that_run_already_stay_where_they_are() -> None:
    cluster = Cluster(3)
    first = asyncio.run(submit(cluster, TASKS))
    again = asyncio.run(submit(cluster, TASKS))
    assert (again.places, again.differences, len(cluster.pods)) == (first.places, (), 6)


def test_one_that_has_grown_is_no_difference_and_one_that_was_done_at_once_none_either() -> None:
    cluster = Cluster(2)
    grows = make_profile("grows", "replicas: {least: 1, most: 3}\n", 5)
    once = make_profile("once", "runs: once\n", 5)
    schedule = cluster.schedule

    def play(template: dict[str, Any]) -> None:
        for _ in range(2 if template["metadata"]["labels"]["cumulet.dev/task"] == "grows" else 1):
            schedule(template)
        if template["metadata"]["labels"]["cumulet.dev/task"] == "once":
            cluster.pods[-1]["status"]["phase"] = "Succeeded"

    cluster.schedule = play  # type: ignore[method-assign]
    done = asyncio.run(submit(cluster, [grows, once], seconds=1))
    assert (done.differences, set(done.places)) == ((), {"grows", "once"})


def test_a_scheduler_that_spreads_is_found_out() -> None:
    done = asyncio.run(submit(Cluster(5, spread=True), TASKS))
    assert len(done.differences) == 1
    assert done.differences[0].startswith("planned on one node: small-0, small-1, small-2, two, two; found: ")


def test_nothing_is_started_if_a_task_has_no_place() -> None:
    cluster = Cluster(1)
    with pytest.raises(
        TargetError, match="small-0: 15 % of a node's CPU: under the limit, but no node has room for it"
    ):
        asyncio.run(submit(cluster, TASKS))
    assert cluster.applied == []


class Spread:
    """Starts super containers: their members are there at once, one on each node."""

    def __init__(self, cluster: Cluster, nodes: list[str] | None = None) -> None:
        self.cluster = cluster
        self.nodes = nodes
        self.started: list[tuple[str, tuple[str, ...]]] = []

    async def __call__(self, profile: TaskProfile, decision: Any) -> None:
        self.started.append((profile.task, decision.nodes))
        self.cluster.applied.append(profile.task)
        for index, node in enumerate(self.nodes or decision.nodes):
            meta = {
                "name": f"{profile.task}-{index}",
                "labels": {"cumulet.dev/task": profile.task, "cumulet.dev/place": "whole"},
                "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
            }
            spec = {"nodeName": node, "containers": [{"resources": {"requests": {"cpu": "7200m"}}}]}
            self.cluster.pods.append({"metadata": meta, "spec": spec, "status": {"phase": "Running"}})


HUGE = make_profile("huge", "mergeable: true\n", 250)


def test_a_task_of_several_nodes_is_started_as_a_super_container_before_the_others() -> None:
    cluster = Cluster(4)
    spread = Spread(cluster)
    done = asyncio.run(submit(cluster, [*TASKS[:1], HUGE], spread=spread))
    assert spread.started == [("huge", ("p1", "p2", "p3"))]
    assert cluster.applied == ["huge", "small-0"]
    assert done.places == {"huge-0": "p1", "huge-1": "p2", "huge-2": "p3", "small-0": "p4"}
    assert done.differences == ()


def test_members_that_came_to_lie_together_are_a_difference() -> None:
    cluster = Cluster(4)
    done = asyncio.run(submit(cluster, [HUGE], spread=Spread(cluster, ["p1", "p1", "p2"])))
    assert done.differences == ("planned on one node: huge; found: huge, huge",) * 2
    cluster = Cluster(4)
    done = asyncio.run(submit(cluster, [HUGE], spread=Spread(cluster, ["p1", "p2"])))
    assert done.differences == ("huge-2 was planned and runs nowhere",)


def test_a_replaced_member_is_where_it_is_now() -> None:
    cluster = Cluster(5)
    spread = Spread(cluster)
    asyncio.run(submit(cluster, [HUGE], spread=spread))
    cluster.pods[1]["status"]["phase"] = "Failed"
    again = {**cluster.pods[1], "spec": {**cluster.pods[1]["spec"], "nodeName": "p5"}, "status": {"phase": "Running"}}
    cluster.pods.append(again)
    assert asyncio.run(read_places(cluster, [HUGE], "default", spread={"huge"})) == {
        "huge-0": "p1",
        "huge-1": "p5",
        "huge-2": "p3",
    }


def test_a_super_container_that_nobody_can_start_stops_everything_before_it_begins() -> None:
    cluster = Cluster(4)
    with pytest.raises(UsageError, match=r"huge: 250 % of a node's CPU: .*: p1, p2, p3: a super container") as caught:
        asyncio.run(submit(cluster, [*TASKS[:1], HUGE]))
    assert (caught.value.hint, cluster.applied) == ("cumulet task run starts it", [])
    twice = make_profile("huge", "mergeable: true\nreplicas: {least: 2}\n", 150)
    with pytest.raises(UsageError, match="huge: is more than a node, and is to be there twice"):
        asyncio.run(submit(cluster, [twice], spread=Spread(cluster)))
    assert cluster.applied == []


def test_a_container_without_a_node_is_named_with_the_schedulers_words() -> None:
    cluster = Cluster(2)
    cluster.pods = [
        {"metadata": {"name": "x", "labels": {"cumulet.dev/task": "x", "cumulet.dev/place": "whole"}},
         "spec": {"nodeName": "gone", "containers": []}, "status": {"phase": "Running"}}
    ]  # fmt: skip
    cluster.schedule = lambda template: cluster.pods.append(  # type: ignore[method-assign]
        {"metadata": {"name": "y", "labels": template["metadata"]["labels"]}, "spec": {"containers": []},
         "status": {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}]}}
    )  # fmt: skip
    with pytest.raises(TargetError, match="small-0: has no node after 0 s: 0/2 nodes are available"):
        asyncio.run(submit(cluster, TASKS[:1], seconds=0))


def test_a_cluster_without_metrics_has_an_edge_and_one_without_nodes_has_none() -> None:
    assert asyncio.run(read_edge(Cluster(2), "pier-7")).nodes[0].load.cpu == 0
    with pytest.raises(TargetError, match="pier-7: no node takes tasks"):
        asyncio.run(read_edge(Cluster(0), "pier-7"))
