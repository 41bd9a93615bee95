"""The real scheduler and controllers over nodes that exist in the API only: they do what was planned.

No kubelet runs here: a pod's place is decided, and nothing is started. So there can be many nodes, and GPUs. Where
pods must become ready, a few lines play the kubelet.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from api_servers import ApiServer, api_server, running_beside, unpack_programs

from cumulet.central import Json, Kube, RefusedError, load_access
from cumulet.core.notes import GPU_RESOURCE
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.models import Switch, read_pins, return_model, roll_model
from cumulet.monitor import Recorder, Reports, load_usage, make_measured
from cumulet.packing import Plan
from cumulet.supercontainer import Controller
from cumulet.tasks import Submitted, TaskProfile, parse_profile, read_pods, submit

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
MERGE = "application/merge-patch+json"
CONTROLLERS = (
    "deployment-controller,replicaset-controller,serviceaccount-controller,garbage-collector-controller,"
    "horizontal-pod-autoscaler-controller,job-controller"
)
QUICK = tuple(
    f"--horizontal-pod-autoscaler-{name}"
    for name in ("sync-period=1s", "cpu-initialization-period=0s", "initial-readiness-delay=0s")
)


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
            "controllers": ["kube-controller-manager", *words, *QUICK, f"--controllers={CONTROLLERS}"],
        }
        with running_beside(folder, programs, commands):
            yield found


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


async def start(kube: Kube, nodes: Sequence[Json], space: str) -> None:
    """A namespace, and nodes that are ready."""
    await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": space}})
    for node in nodes:
        await kube.call("POST", "/api/v1/nodes", node)
        path = f"/api/v1/nodes/{node['metadata']['name']}"
        # A new node is kept free until its kubelet says that it is ready, and here is none.
        await kube.call("PATCH", path, {"spec": {"taints": None}}, content=MERGE)
        await kube.call("PATCH", f"{path}/status", {"status": node["status"]}, content=MERGE)


async def clear(kube: Kube, nodes: Sequence[Json], space: str) -> None:
    """All of it away again."""
    await kube.call("DELETE", f"/apis/apps/v1/namespaces/{space}/deployments")
    await kube.call("DELETE", f"/apis/batch/v1/namespaces/{space}/jobs", {"propagationPolicy": "Background"})
    await kube.call("DELETE", f"/api/v1/namespaces/{space}/pods", {"gracePeriodSeconds": 0})
    for node in nodes:
        await kube.call("DELETE", f"/api/v1/nodes/{node['metadata']['name']}")


def run(plane: ApiServer, nodes: Sequence[Json], tasks: Sequence[TaskProfile], space: str) -> Submitted:
    """Tasks on nodes of their own, which are taken away afterwards."""

    async def act() -> Submitted:
        kube = Kube(load_access(plane.config))
        try:
            await start(kube, nodes, space)
            spread = Controller(kube, space, print, pause=0.2).start
            return await submit(kube, tasks, namespace=space, seconds=240, spread=spread)
        finally:
            await clear(kube, nodes, space)
            kube.close()

    return asyncio.run(act())


def groups_of(plan: Plan) -> list[int]:
    return sorted(len(group) for group in plan.groups())


def test_five_of_15_percent_share_a_node_one_of_60_has_its_own_and_one_of_250_has_three(plane: ApiServer) -> None:
    small, huge = [f"small-{number}" for number in range(5)], [f"huge-{number}" for number in range(3)]
    tasks = [*(make_task(name, 15, 10) for name in small), make_task("big", 60, 30)]
    tasks.append(make_task("huge", 250, extra="mergeable: true\nruns: once\n"))
    done = run(plane, [make_node(f"p{number}") for number in range(5)], tasks, "five")
    assert done.differences == ()
    assert set(done.places) == {*small, *huge, "big"}
    shared, own, whole = ({done.places[name] for name in names} for names in (small, ["big"], huge))
    assert (len(shared), len(own), len(whole)) == (1, 1, 3)
    assert len(shared | own | whole) == 5


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


OLD, NEW, BAD, MISSING = (f"cumulet.dev/models/yolo@sha256:{each * 64}" for each in "abcd")
FOUND = {OLD: {"accuracy": 0.92, "latency": 20}, NEW: {"accuracy": 0.97, "latency": 25}, BAD: {"accuracy": 0.4}}


async def play_kubelet(kube: Kube, space: str) -> None:
    """Pods that have a node become ready, if their model is known; checks end with what they have found."""
    path = f"/api/v1/namespaces/{space}/pods"
    while True:
        for pod in (await kube.call("GET", path))["items"]:
            # Whoever else works on a pod may have taken it away.
            with contextlib.suppress(RefusedError):
                await play_pod(kube, path, pod)
        await asyncio.sleep(0.1)


async def play_pod(kube: Kube, path: str, pod: Json) -> None:
    """One pod of it."""
    name, meta = pod["metadata"]["name"], pod["metadata"]
    volumes = pod["spec"].get("volumes") or [{"image": {"reference": OLD}}]
    model = volumes[-1]["image"]["reference"]
    ready = any(each["type"] == "Ready" for each in pod["status"].get("conditions", []))
    if "deletionTimestamp" in meta:
        await kube.call("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})
    elif pod["spec"].get("nodeName") and not ready and model in FOUND:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        state: Json = {"running": {"startedAt": now}}
        if "cumulet.dev/check" in meta["labels"]:
            state = {"terminated": {"exitCode": 0, "message": json.dumps(FOUND[model]), "startedAt": now}}
        container = {"name": pod["spec"]["containers"][0]["name"], "ready": True, "restartCount": 0}
        container |= {"image": "none:1", "imageID": "", "state": state}
        condition = {"type": "Ready", "status": "True", "lastTransitionTime": now}
        status: Json = {"phase": "Running", "conditions": [condition], "containerStatuses": [container]}
        status["startTime"] = now
        await kube.call("PATCH", f"{path}/{name}/status", {"status": status}, content=MERGE)


SPACE = "roll"


class Watched:
    """A task of three containers whose model is switched; how many of them were missing at most."""

    def __init__(self, kube: Kube) -> None:
        check = "check: {command: [check], accuracy: 0.9, latency: 100}\n"
        self.task = make_task("detect", 10, extra=f"model: {OLD}\nreplicas: {{least: 3}}\n{check}")
        self.kube = kube
        self.most_missing = 0

    async def watch(self) -> None:
        while True:
            self.most_missing = max(self.most_missing, 3 - await count_ready(self.kube, SPACE))
            await asyncio.sleep(0.05)

    async def models(self) -> dict[str, int]:
        pods = await read_pods(self.kube, "detect", SPACE)
        return dict(Counter(pod["spec"]["volumes"][-1]["image"]["reference"] for pod in pods))

    def switch(self, model: str, seconds: float = 30) -> Switch:
        return Switch(self.kube, self.task, model, "image", SPACE, print, seconds=seconds, pause=0.1)


async def switch_models(kube: Kube) -> None:
    it = Watched(kube)
    await start(kube, [make_node(f"r{number}") for number in range(3)], SPACE)
    await submit(kube, [it.task], namespace=SPACE)
    kubelet = asyncio.create_task(play_kubelet(kube, SPACE))
    while await count_ready(kube, SPACE) < 3:
        await asyncio.sleep(0.1)
    watcher = asyncio.create_task(it.watch())
    done = await roll_model(it.switch(NEW))
    assert (done.changed, done.returned, [each.good for each in done.checks]) == (True, False, [True] * 3)
    assert await it.models() == {NEW: 3}
    done = await roll_model(it.switch(BAD))
    assert done.returned
    assert "accuracy 0.4, at least 0.9 is wanted; latency not told" in done.reason
    assert await it.models() == {NEW: 3}
    done = await roll_model(it.switch(MISSING, 4))
    assert (done.returned, done.reason) == (True, "not ready after 4 s with yolo@dddddddddddd: Pending")
    assert await it.models() == {NEW: 3}
    watcher.cancel()
    # Never more than one container less, whatever happened.
    assert it.most_missing == 1
    found = await kube.call("GET", f"/apis/apps/v1/namespaces/{SPACE}/deployments/detect")
    assert found["spec"].get("minReadySeconds", 0) == 0
    assert await read_pins(kube) == {NEW, OLD}
    back = await return_model(it.switch(""))
    assert (back.after, await it.models()) == (OLD, {OLD: 3})
    assert not kubelet.done()
    kubelet.cancel()


def test_a_model_is_switched_by_the_real_controllers_one_container_at_a_time(plane: ApiServer) -> None:
    async def run_all() -> None:
        kube = Kube(load_access(plane.config))
        try:
            await asyncio.wait_for(switch_models(kube), 120)
        finally:
            await clear(kube, [make_node(f"r{number}") for number in range(3)], SPACE)
            kube.close()

    asyncio.run(run_all())


async def count_ready(kube: Kube, space: str) -> int:
    found = await kube.call("GET", f"/apis/apps/v1/namespaces/{space}/deployments/detect")
    return int(found["status"].get("readyReplicas", 0))


METRICS = "/apis/metrics.k8s.io/v1beta1"


def make_metrics_kind(plural: str, kind: str, scope: str) -> Json:
    """The API of the metrics server as a kind of one's own, so that a test says how busy everything is."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    version = {"name": "v1beta1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    names = {"plural": plural, "kind": kind, "listKind": f"{kind}List"}
    spec = {"group": "metrics.k8s.io", "scope": scope, "names": names, "versions": [version]}
    notes = {"api-approved.kubernetes.io": "unapproved, a test"}
    return {"metadata": {"name": f"{plural}.metrics.k8s.io", "annotations": notes}, "spec": spec}


async def play_metrics(kube: Kube, space: str, cpu: Callable[[], int]) -> None:
    """Every container uses so many thousandths of a processor."""
    path = f"{METRICS}/namespaces/{space}/pods"
    while True:
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for pod in await read_pods(kube, "grows", space):
            meta = {"name": pod["metadata"]["name"], "namespace": space, "labels": pod["metadata"]["labels"]}
            usage = {"name": "task", "usage": {"cpu": f"{cpu()}m", "memory": "50Mi"}}
            body: Json = {"apiVersion": "metrics.k8s.io/v1beta1", "kind": "PodMetrics", "metadata": meta}
            body |= {"timestamp": now, "window": "10s", "containers": [usage]}
            words = {"fieldManager": "test", "force": "true"}
            await kube.call(
                "PATCH", f"{path}/{meta['name']}", body, query=words, content="application/apply-patch+yaml"
            )
        await asyncio.sleep(0.3)


def test_the_number_of_containers_follows_the_load_and_reports_say_so(plane: ApiServer, tmp_path: Path) -> None:
    # 10 % of 8 processors are 800 thousandths, of which half should be used.
    grows = make_task("grows", 10, extra="replicas: {least: 1, most: 4, target: 50, calm: 3s}\n")
    space, busy = "grows", [300]

    async def until_there_are(kube: Kube, recorder: Recorder, count: int) -> None:
        told = {f"{space}/grows": count}
        while len(await read_pods(kube, "grows", space)) != count or recorder.reports.load_known() != told:
            await recorder.sample(time.time())
            await asyncio.sleep(0.3)

    async def act(kube: Kube) -> None:
        definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        await kube.call("POST", definitions, make_metrics_kind("pods", "PodMetrics", "Namespaced"))
        await kube.call("POST", definitions, make_metrics_kind("nodes", "NodeMetrics", "Cluster"))
        await start(kube, [make_node(f"h{number}") for number in range(2)], space)
        await submit(kube, [grows], namespace=space)
        played = [play_kubelet(kube, space), play_metrics(kube, space, lambda: busy[0])]
        tasks = [asyncio.create_task(each) for each in played]
        recorder = Recorder(kube, "pier-7", tmp_path)
        await until_there_are(kube, recorder, 1)
        busy[0] = 900
        await until_there_are(kube, recorder, 4)
        busy[0] = 80
        await until_there_are(kube, recorder, 1)
        for task in tasks:
            assert not task.done(), task.exception()
            task.cancel()
        recorder.close()

    async def run_all() -> None:
        kube = Kube(load_access(plane.config))
        try:
            await asyncio.wait_for(act(kube), 120)
        finally:
            await kube.call("DELETE", f"/apis/autoscaling/v2/namespaces/{space}/horizontalpodautoscalers")
            await clear(kube, [make_node(f"h{number}") for number in range(2)], space)
            kube.close()

    asyncio.run(run_all())
    reports = [json.loads(path.read_text()) for path in Reports(tmp_path / "reports").list_reports()]
    assert (reports[0]["before"], reports[-1]["after"]) == (1, 1)
    assert max(report["after"] for report in reports) == 4
    assert [one["after"] for one in reports[:-1]] == [one["before"] for one in reports[1:]]
    assert reports[0]["why"].startswith("CPU 112 % of what was asked for, wanted are 50 %")
    measured = make_measured(load_usage(tmp_path, space, "grows", time.time()), cpus=8)
    assert measured is not None
    assert (measured.cpu, measured.memory) == (11.25, "50MiB")
