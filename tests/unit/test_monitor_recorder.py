"""What a site and its tasks use, and how tasks were scaled: read from the cluster, kept, and never lost."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.monitor import Recorder, Reports, ScaleReport, load_usage, make_measured, read_ring
from cumulet.monitor.scaling import find_changes, read_counts
from cumulet.monitor.usage import SiteLoad, TaskUsage, sum_load, sum_usage

NOW = 1_800_000_000.0


def make_node(name: str, **notes: str) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "annotations": {f"edge.cumulet.dev/{key}": text for key, text in notes.items()}},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi"}},
    }


def make_metrics(name: str, cpu: str, memory: str) -> dict[str, Any]:
    return {"metadata": {"name": name}, "usage": {"cpu": cpu, "memory": memory}}


def make_pod_metrics(task: str, *cpus: str) -> dict[str, Any]:
    containers = [{"usage": {"cpu": cpu, "memory": "100Mi"}} for cpu in cpus]
    return {"metadata": {"namespace": "default", "labels": {"cumulet.dev/task": task}}, "containers": containers}


def make_scaler(task: str, wanted: int, percent: int | None = None, **more: Any) -> dict[str, Any]:
    current = [{"resource": {"name": "cpu", "current": {"averageUtilization": percent}}}] if percent else []
    return {
        "metadata": {"name": task, "namespace": "default", "labels": {"cumulet.dev/task": task}},
        "spec": {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"averageUtilization": 70}}}]},
        "status": {"desiredReplicas": wanted, "currentMetrics": current, **more},
    }


class Cluster:
    def __init__(self) -> None:
        self.nodes = [make_node("p1", **{"gpu-busy": "30"}), make_node("p2"), make_node("p3")]
        self.metrics = [make_metrics("p1", "4", "4Gi"), make_metrics("p2", "2500m", "2Gi")]
        self.pods = [make_pod_metrics("detect", "500m", "100m"), make_pod_metrics("detect", "1200000000n")]
        self.scalers = [make_scaler("detect", 1)]
        self.living: list[dict[str, Any]] = []
        self.deployments: list[dict[str, Any]] = []

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if self.nodes == []:
            raise TargetError("10.0.0.12: no answer")
        kind = path.rpartition("/")[2]
        if "metrics.k8s.io" in path:
            return {"items": self.metrics if kind == "nodes" else self.pods}
        found = {"nodes": self.nodes, "pods": self.living, "deployments": self.deployments}
        return {"items": found.get(kind, self.scalers)}


def test_the_load_is_of_the_nodes_that_say_something() -> None:
    cluster = Cluster()
    assert sum_load(cluster.nodes, cluster.metrics) == SiteLoad(40.625, 30.0, 37.5)
    assert sum_load(cluster.nodes, []) is None


def test_usage_is_kept_by_task_and_by_container() -> None:
    assert sum_usage(Cluster().pods) == [TaskUsage("default", "detect", 2, 900.0, 1200.0, 200 << 20, 300 << 20)]


def test_a_recorder_keeps_load_and_usage_for_the_profiles(tmp_path: Path) -> None:
    cluster = Cluster()
    recorder = Recorder(cluster, "pier-7", tmp_path)
    for minute in range(60):
        cluster.pods[1]["containers"][0]["usage"]["cpu"] = f"{1000 + 5 * minute}m"
        asyncio.run(recorder.sample(NOW + 60 * minute))
    recorder.close()
    load = read_ring(tmp_path / "load.ring", NOW + 3600)
    assert (len(load), load[0].samples) == (12, 5)
    assert load[0].values == pytest.approx((40.625, 30.0, 37.5, 40.625))
    kept = load_usage(tmp_path, "default", "detect", NOW + 3600)
    assert (len(kept), kept[-1].values[3]) == (12, 2.0)
    measured = make_measured(kept, cpus=8, node="p4")
    assert measured is not None
    # The highest sample of the last bin but none was 1295 thousandths.
    assert (measured.cpu, measured.memory, measured.seconds, measured.gpu_seen) == (16.19, "200MiB", 3600, False)
    assert make_measured([], cpus=8) is None


def test_a_cluster_without_an_answer_leaves_a_gap_and_not_a_zero(tmp_path: Path) -> None:
    cluster = Cluster()
    recorder = Recorder(cluster, "pier-7", tmp_path)
    asyncio.run(recorder.sample(NOW))
    cluster.metrics = []
    asyncio.run(recorder.sample(NOW + 300))
    cluster.nodes = []
    told: list[str] = []

    async def run() -> None:
        task = asyncio.create_task(recorder.run(told.append, every=0.01))
        await asyncio.sleep(0.03)
        task.cancel()

    asyncio.run(run())
    recorder.close()
    assert told[0] == "no sample: 10.0.0.12: no answer"
    assert len(read_ring(tmp_path / "load.ring", NOW + 600)) == 1


def test_a_report_says_who_was_scaled_from_what_to_what_and_why() -> None:
    known = read_counts([make_scaler("detect", 1)])
    limited = [
        {"type": "ScalingLimited", "status": "True", "message": "the desired replica count is more than the maximum"}
    ]
    changed = make_scaler("detect", 3, 190, conditions=limited)
    report = find_changes("pier-7", known, [changed], NOW)[0]
    assert (report.site, report.task, report.before, report.after) == ("pier-7", "detect", 1, 3)
    assert report.why == (
        "CPU 190 % of what was asked for, wanted are 70 %; the desired replica count is more than the maximum"
    )
    assert find_changes("pier-7", {}, [changed], NOW) == []
    foreign = make_scaler("web", 5)
    foreign["metadata"]["labels"] = {}
    assert read_counts([foreign]) == {}


def test_reports_wait_in_their_folder_and_a_restart_loses_none_and_tells_none_twice(tmp_path: Path) -> None:
    cluster = Cluster()
    for wanted in (1, 3, 3, 2):
        cluster.scalers = [make_scaler("detect", wanted, 150)]
        recorder = Recorder(cluster, "pier-7", tmp_path)
        asyncio.run(recorder.sample(NOW + wanted))
        recorder.close()
    found = [json.loads(path.read_text()) for path in Reports(tmp_path / "reports").list_reports()]
    assert {(each["before"], each["after"]) for each in found} == {(1, 3), (3, 2)}
    assert {(each["version"], each["kind"], each["site"]) for each in found} == {(1, "scaled", "pier-7")}
    assert Reports(tmp_path / "reports").load_known() == {"default/detect": 2}
    (tmp_path / "reports" / "state.json").write_text("{")
    assert Reports(tmp_path / "reports").load_known() == {}


def test_reports_are_handed_on_in_their_order_and_kept_until_they_are_taken(tmp_path: Path) -> None:
    reports = Reports(tmp_path)
    made = [ScaleReport("pier-7", "default", "detect", 1, count, "CPU", NOW + count) for count in (2, 3, 4)]
    reports.add(made, {"default/detect": 4})
    taken: dict[str, int] = {}

    def take(name: str, content: bytes) -> None:
        if len(taken) == 2:
            raise TargetError("no room")
        taken[name] = json.loads(content)["after"]

    with pytest.raises(TargetError):
        reports.hand_on(take)
    assert list(taken.values()) == [2, 3]
    assert reports.hand_on(lambda name, content: taken.update({name: json.loads(content)["after"]})) == 1
    assert (list(taken.values()), reports.list_reports(), reports.hand_on(print)) == ([2, 3, 4], [], 0)
    assert len({name for name in taken if name.startswith("scaled-0018000000")}) == 3
