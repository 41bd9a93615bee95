"""The real scheduler with our settings, over nodes that exist in the API only: what it does is what was planned.

No kubelet runs here: a pod's place is decided, and nothing is started. So there can be many nodes, and GPUs.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from api_servers import ApiServer, api_server, unpack_programs

from cumulet.central import Json, Kube, load_access
from cumulet.kubernetes import GPU_RESOURCE
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.packing import Plan
from cumulet.tasks import Submitted, TaskProfile, parse_profile, submit

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
MERGE = "application/merge-patch+json"
CONTROLLERS = "deployment-controller,replicaset-controller,serviceaccount-controller,garbage-collector-controller"


@pytest.fixture(scope="module")
def programs(lab_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_programs(lab_image, tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def plane(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server with our scheduler, and the controllers that make pods of Deployments."""
    folder = tmp_path_factory.mktemp("plane")
    with api_server(folder, programs) as found:
        settings = folder / "scheduler.yaml"
        settings.write_text(yaml.safe_dump(make_scheduler_config(str(found.config), leaderElect=False)))
        words = ["--secure-port=0", f"--kubeconfig={found.config}", "--leader-elect=false", "--kube-api-qps=400"]
        commands = {
            "scheduler": ["kube-scheduler", f"--config={settings}", "--secure-port=0"],
            "controllers": ["kube-controller-manager", *words, f"--controllers={CONTROLLERS}"],
        }
        processes = []
        try:
            for name, command in commands.items():
                with (folder / f"{name}.log").open("wb") as log:
                    argv = [str(programs / "kube"), *command]
                    processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
            yield found
            assert [process.poll() for process in processes] == [None, None], (folder / "scheduler.log").read_text()
        finally:
            for process in processes:
                process.terminate()
                process.wait(20)


def make_node(name: str, cpus: int = 8, gpu: int = 100) -> Json:
    amounts = {"cpu": str(cpus), "memory": f"{cpus}Gi", "pods": "64", "ephemeral-storage": "40Gi"}
    amounts |= {GPU_RESOURCE: str(gpu)} if gpu else {}
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    labels = {"kubernetes.io/hostname": name}
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}, "status": status}


def make_task(name: str, cpu: float, gpu: float = 0, memory: str = "256MiB", extra: str = "") -> TaskProfile:
    text = f"version: 1\ntask: {name}\nimage: none:1\ncpu: {cpu}\ngpu: {gpu}\nmemory: {memory}\n{extra}"
    return parse_profile(text, f"{name}.yaml")


def run(plane: ApiServer, nodes: Sequence[Json], tasks: Sequence[TaskProfile], space: str) -> Submitted:
    """Tasks on nodes of their own, which are taken away afterwards."""

    async def act() -> Submitted:
        kube = Kube(load_access(plane.config))
        try:
            await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
            for node in nodes:
                await kube.call("POST", "/api/v1/nodes", node)
                path = f"/api/v1/nodes/{node['metadata']['name']}"
                # A new node is kept free until its kubelet says that it is ready, and here is none.
                await kube.call("PATCH", path, {"spec": {"taints": None}}, content=MERGE)
                await kube.call("PATCH", f"{path}/status", {"status": node["status"]}, content=MERGE)
            return await submit(kube, tasks, namespace=space, seconds=240)
        finally:
            await kube.call("DELETE", f"/apis/apps/v1/namespaces/{space}/deployments")
            await kube.call("DELETE", f"/api/v1/namespaces/{space}/pods", {"gracePeriodSeconds": 0})
            for node in nodes:
                await kube.call("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")
            kube.close()

    return asyncio.run(act())


def groups_of(plan: Plan) -> list[int]:
    return sorted(len(group) for group in plan.groups())


def test_five_of_fifteen_percent_share_a_node_and_one_of_sixty_has_its_own(plane: ApiServer) -> None:
    tasks = [*(make_task(f"small-{number}", 15, 10) for number in range(5)), make_task("big", 60, 30)]
    done = run(plane, [make_node(f"p{number}") for number in range(4)], tasks, "five")
    assert done.differences == ()
    assert groups_of(done.plan) == [1, 5]


def test_a_gpu_that_is_full_sends_the_next_task_to_another_node(plane: ApiServer) -> None:
    tasks = [make_task(f"t{number}", 2, 19) for number in range(6)]
    nodes = [make_node(f"p{number}") for number in range(3)] + [make_node("blind", gpu=0)]
    done = run(plane, nodes, [*tasks, make_task("plain", 18)], "gpu")
    assert done.differences == ()
    assert groups_of(done.plan) in ([1, 6], [2, 5], [1, 1, 5])
    assert all(done.places[task.task] != "blind" for task in tasks)


@pytest.mark.parametrize("seed", range(3))
def test_forty_tasks_of_any_kind_on_a_dozen_nodes_lie_where_the_plan_says(plane: ApiServer, seed: int) -> None:
    chance = random.Random(seed)
    tasks = []
    for number in range(40):
        cpu = chance.choice([3, 5, 8, 12, 15, 19]) if number % 12 else 60
        extra = "replicas: {least: 2}\n" if number % 9 == 4 else ""
        gpu = chance.choice([0, 4, 10, 16])
        tasks.append(make_task(f"t{number}", cpu, gpu, f"{chance.choice([64, 256, 512])}MiB", extra))
    nodes = [make_node(f"p{number:02}") for number in range(14)]
    done = run(plane, nodes, tasks, f"many-{seed}")
    assert done.differences == ()
    assert done.plan.busy <= done.plan.bound + 1
