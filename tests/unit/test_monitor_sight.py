"""What is told of a site, from what its API server says: the pulse for the hub, the status for the sky."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cumulet.central.pulse import read_pulse
from cumulet.core.errors import TargetError
from cumulet.monitor import Beside, Recorder, Sight, Window, make_pulse, make_status, read_sight
from cumulet.spool import Waiting
from cumulet.uplink import decode_status, encode_status, load_status

NOW = 1_800_000_000.0
YOLO = "cumulet.dev/models/yolo@sha256:4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


def make_node(name: str, ready: bool = True, role: str = "") -> dict[str, Any]:
    labels = {f"node-role.kubernetes.io/{role}": ""} if role else {}
    return {
        "metadata": {"name": name, "labels": labels},
        "status": {
            "allocatable": {"cpu": "8", "memory": "8Gi"},
            "conditions": [{"type": "Ready", "status": "True" if ready else "Unknown"}],
        },
    }


def make_pod(task: str, phase: str = "Running", *, ready: bool = True, reason: str = "", model: str = "") -> Any:
    notes = {"cumulet.dev/model": model} if model else {}
    waiting = [{"state": {"waiting": {"reason": reason}}}] if reason else []
    return {
        "metadata": {"namespace": "default", "labels": {"cumulet.dev/task": task}, "annotations": notes},
        "spec": {},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
            "containerStatuses": waiting,
        },
    }


def make_deployment(task: str, replicas: int, model: str = "", **notes: str) -> Any:
    template = {"metadata": {"annotations": {"cumulet.dev/model": model} if model else {}}}
    return {
        "metadata": {"namespace": "default", "labels": {"cumulet.dev/task": task}, "annotations": notes},
        "spec": {"replicas": replicas, "template": template},
    }


def make_usage(task: str, cpu: str, memory: str) -> Any:
    return {
        "metadata": {"namespace": "default", "labels": {"cumulet.dev/task": task}},
        "containers": [{"usage": {"cpu": cpu, "memory": memory}}],
    }


SIGHT = Sight(
    nodes=[make_node("p1", role="etcd"), make_node("p2", role="control-plane"), make_node("p3", False, "control-plane"),
           make_node("p4")],
    node_metrics=[{"metadata": {"name": "p4"}, "usage": {"cpu": "4", "memory": "2Gi"}}],
    pods=[make_pod("detect"), make_pod("detect"), make_pod("detect", ready=False, reason="CrashLoopBackOff"),
          make_pod("sum", model=YOLO), make_pod("sum", "Pending", ready=False), make_pod("sum", "Succeeded")],
    pod_metrics=[make_usage("detect", "1500m", "300Mi"), make_usage("detect", "500m", "200Mi")],
    deployments=[make_deployment("detect", 3, YOLO, **{"cumulet.dev/model-from": "x"})],
)  # fmt: skip
BESIDE = Beside(
    Window(int(NOW) + 600, 1800, 5.0, 20.0, "days"), Waiting(3, (5 << 20) + 1, 0, 0, NOW - 3600), (31.0, 121.0)
)


def test_the_pulse_has_replicas_usage_models_and_the_window() -> None:
    pulse = make_pulse(SIGHT, BESIDE, NOW)
    assert (pulse.nodes, pulse.load, pulse.window, pulse.spool) == ((3, 4), (50, 0, 25), (int(NOW) + 600, 1800), (3, 6))
    detect, lone = pulse.tasks
    assert (detect.name, detect.wanted, detect.ready, detect.running) == ("default/detect", 3, 2, 2)
    assert (detect.cpu, detect.memory) == (2000, 500)
    assert (detect.models, detect.changing) == ({"yolo@4f53cda18c2b": 1}, 1)
    # A task without a Deployment is what its pods say; one that has ended is none.
    assert (lone.name, lone.wanted, lone.ready, lone.running) == ("default/sum", 2, 1, 0)
    assert lone.models == {"yolo@4f53cda18c2b": 1}
    assert make_pulse(Sight([], [], [], [], []), Beside(), NOW).tasks == ()


def test_the_status_says_what_is_wrong_and_fits_into_a_message() -> None:
    status = make_status("pier-7", SIGHT, BESIDE, NOW)
    assert (status.nodes, status.ready, status.servers, status.servers_ready) == (4, 3, 3, 2)
    assert (status.running, status.waiting, status.failed) == (3, 1, 1)
    assert status.alarms == ("control-plane", "node-lost", "task-failed")
    assert (status.spool_entries, status.age, status.model) == (3, 60.0, "4f53cda1")
    assert [(node.name, node.ready, node.cpu) for node in status.each_node][2:] == [("p3", False, 0), ("p4", True, 50)]
    back = decode_status(encode_status(status, "global"), ["pier-7"], {})
    assert (back.servers_ready, back.alarms, back.model) == (2, status.alarms, "4f53cda1")
    none = make_status("pier-7", Sight([make_node("p1", False, "control-plane")], [], [], [], []), Beside(), NOW)
    assert none.alarms == ("control-plane", "no-quorum", "node-lost")


class Cluster:
    def __init__(self, sight: Sight) -> None:
        self.answers: Any = {
            "/api/v1/nodes": sight.nodes,
            "/api/v1/pods": sight.pods,
            "/apis/metrics.k8s.io/v1beta1/nodes": sight.node_metrics,
            "/apis/metrics.k8s.io/v1beta1/pods": sight.pod_metrics,
            "/apis/apps/v1/deployments": sight.deployments,
            "/apis/autoscaling/v2/horizontalpodautoscalers": [],
        }

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> Any:
        if not self.answers:
            raise TargetError("10.0.0.12: no answer")
        if path.endswith(("pods", "deployments")):
            assert more["query"] == {"labelSelector": "cumulet.dev/task"}
        return {"items": self.answers[path]}


def test_a_recorder_publishes_for_the_agent_and_for_the_sky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cumulet.monitor.recorder.find_position", lambda: (31.0, 121.0))
    cluster, run = Cluster(SIGHT), tmp_path / "run"
    assert asyncio.run(read_sight(cluster)) == SIGHT
    recorder = Recorder(cluster, "pier-7", tmp_path / "ring", run)
    asyncio.run(recorder.sample(NOW))
    pulse = read_pulse((run / "pulse.json").read_text())
    assert pulse.window[0] > NOW
    status = load_status((run / "status.json").read_text())
    assert (status.site, status.time, status.position, status.ready) == ("pier-7", int(NOW), (31.0, 121.0), 3)
    assert status.each_node[3].cpu == 50
    # A site whose API server is silent is the one of which the sky has to be told.
    cluster.answers = {}
    told: list[str] = []

    async def record() -> None:
        task = asyncio.create_task(recorder.run(told.append, every=60))
        await asyncio.sleep(0.05)
        task.cancel()

    asyncio.run(record())
    recorder.close()
    status = load_status((run / "status.json").read_text())
    assert (status.note, status.servers_ready) == ("API does not answer", 0)
    assert status.alarms[0] == "control-plane"
    assert told == ["no sample: 10.0.0.12: no answer"]
    assert json.loads((run / "pulse.json").read_text())["at"] == int(NOW)
