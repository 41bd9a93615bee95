"""A task measured: control groups of both versions, GPU time by client, and the profile that comes out of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cumulet.core import watch
from cumulet.core.errors import TargetError
from cumulet.tasks import parse_profile
from cumulet.tasks.measure import WATCH, correct, make_measured, measure

UID = "0f3c9a52-7a57-4a5e-8d3a-0a8f4b1f2c11"
MIB = 1 << 20
PROFILE = parse_profile("version: 1\ntask: detect\nimage: detect:1\ncpu: 5\nmemory: 64MiB\n", "task.yaml")


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_groups_of_version_2_with_systemd(tmp_path: Path) -> None:
    pod = tmp_path / "kubepods.slice/kubepods-burstable.slice" / f"kubepods-burstable-pod{UID.replace('-', '_')}.slice"
    write(pod / "cpu.stat", "usage_usec 1500000\nuser_usec 1000000\n")
    write(pod / "memory.current", f"{80 * MIB}\n")
    write(pod / "memory.stat", f"anon 5\ninactive_file {30 * MIB}\n")
    write(pod / "cri-containerd-ab.scope/cgroup.procs", "11\n12\n")
    write(tmp_path / "system.slice/cpu.stat", "usage_usec 9\n")
    groups = watch.find_groups(UID, tmp_path)
    assert groups == [pod]
    assert (watch.read_cpu(groups), watch.read_memory(groups)) == (1_500_000_000, 50 * MIB)
    assert watch.list_processes(groups) == {11, 12}


def test_groups_of_version_1_are_in_several_hierarchies(tmp_path: Path) -> None:
    for name in ("cpu,cpuacct", "memory"):
        write(tmp_path / name / "kubepods/burstable" / f"pod{UID}" / "c1" / "cgroup.procs", "7\n")
    write(tmp_path / f"cpu,cpuacct/kubepods/burstable/pod{UID}/cpuacct.usage", "250000000\n")
    write(tmp_path / f"memory/kubepods/burstable/pod{UID}/memory.usage_in_bytes", f"{64 * MIB}\n")
    write(tmp_path / f"memory/kubepods/burstable/pod{UID}/memory.stat", f"total_inactive_file {4 * MIB}\n")
    groups = watch.find_groups(UID, tmp_path)
    assert len(groups) == 2
    assert (watch.read_cpu(groups), watch.read_memory(groups)) == (250_000_000, 60 * MIB)
    assert watch.list_processes(groups) == {7}
    assert (watch.read_cpu([tmp_path / "gone"]), watch.read_memory([tmp_path / "gone"])) == (0, 0)


FDINFO = """\
pos:\t0
flags:\t02100002
drm-driver:\tmsm
drm-client-id:\t{client}
drm-engine-gpu:\t{spent} ns
drm-cycles-gpu:\t1231231
drm-maxfreq-gpu:\t710000000 Hz
"""


def test_a_client_with_many_files_counts_once_and_clients_add_up(tmp_path: Path) -> None:
    write(tmp_path / "11/fdinfo/3", FDINFO.format(client=5, spent=1000))
    write(tmp_path / "11/fdinfo/4", FDINFO.format(client=5, spent=1000))
    write(tmp_path / "12/fdinfo/9", FDINFO.format(client=6, spent=500))
    write(tmp_path / "12/fdinfo/1", "pos:\t0\nflags:\t02\n")
    assert watch.read_engines([11, 12, 13], tmp_path) == {"msm/gpu": 1500}
    shared = "drm-pdev:\t0000:00:02.0\ndrm-client-id:\t1\ndrm-engine-video:\t900 ns\ndrm-engine-capacity-video:\t3\n"
    assert watch.parse_fdinfo(shared) == {("0000:00:02.0", "1", "video"): 300}
    assert watch.parse_fdinfo("drm-driver:\tpanthor\ndrm-client-id:\t4\ndrm-total-memory:\t5 KiB\n") == {}


def test_what_is_seen_is_percent_of_the_node_without_the_rare_peaks() -> None:
    samples = [watch.Sample(0.0, 0, 10 * MIB, {"msm/gpu": 0})]
    for step in range(1, 41):
        cpu = samples[-1].cpu + (4_000_000_000 if step == 7 else 800_000_000)
        samples.append(watch.Sample(step * 1.0, cpu, (10 + step) * MIB, {"msm/gpu": step * 300_000_000}))
    found = watch.summarize(samples, cpus=4)
    assert found == {"cpu": 20.0, "gpu": 30.0, "memory": 50 * MIB, "cpus": 4, "seconds": 40.0, "gpu_seen": True}
    assert watch.summarize(samples[:1], cpus=4)["cpu"] == 0.0


def test_the_watcher_runs_as_a_text_on_its_input_with_nothing_but_the_standard_library() -> None:
    words = [sys.executable, "-I", "-S", "-", UID, "0.1", "0.05"]
    done = subprocess.run(words, input=WATCH.read_text(), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"error": f"there are no control groups of pod {UID}"}


SEEN = {"cpu": 22.4567, "gpu": 0.0, "memory": 300 * MIB + 1, "cpus": 8, "seconds": 59.2, "gpu_seen": False}


class Cluster:
    def __init__(self, *states: dict[str, Any]) -> None:
        self.states = list(states)
        self.calls: list[str] = []
        self.pod: dict[str, Any] = {}

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        self.calls.append(method)
        if method == "POST":
            self.pod = body
        state = self.states.pop(0) if method == "GET" else {}
        return {"metadata": {"uid": UID}, "status": {"containerStatuses": [{"state": state}]}}


async def run_on_node(argv: Any, text: str, seconds: float) -> str:
    assert (argv[:3], argv[3], argv[4], seconds) == (("python3", "-I", "-"), UID, "60", 120)
    return json.dumps(SEEN)


def test_a_task_is_measured_alone_and_removed_afterwards() -> None:
    cluster = Cluster({"waiting": {"reason": "ContainerCreating"}}, {"running": {}})
    found = asyncio.run(measure(cluster, run_on_node, PROFILE, "p4", 60))
    assert (found.cpu, found.memory, found.cpus, found.node, found.seconds) == (22.46, "301MiB", 8, "p4", 60)
    assert cluster.calls == ["POST", "GET", "GET", "DELETE"]
    assert cluster.pod["spec"]["nodeName"] == "p4"
    assert "resources" not in cluster.pod["spec"]["containers"][0]
    assert correct(PROFILE, found).measured == found
    assert make_measured(SEEN, "p4") == found


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"terminated": {"exitCode": 1}}, "detect: ended before it could be watched: exit code 1"),
        (
            {"waiting": {"reason": "ErrImagePull", "message": "no such"}},
            "detect: cannot be started: ErrImagePull: no such",
        ),
    ],
)
def test_a_task_that_does_not_run_is_removed_and_named(state: dict[str, Any], message: str) -> None:
    cluster = Cluster(state)
    with pytest.raises(TargetError, match=message):
        asyncio.run(measure(cluster, run_on_node, PROFILE, "p4", 60))
    assert cluster.calls[-1] == "DELETE"
