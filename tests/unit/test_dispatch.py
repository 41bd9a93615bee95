"""The centre's tasks at a site, with an API server that is a dictionary: started by the rule, told of, taken away."""

from __future__ import annotations

import asyncio
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet.dispatch import Dispatcher, make_objects
from cumulet.dispatch.facts import PODS, TASKS, WORKLOADS

GIB = "8Gi"


class RefusedError(TargetError):
    """What an API server answers with."""

    def __init__(self, status: int) -> None:
        super().__init__(f"refused with {status}")
        self.status = status


class FakeApi:
    """Objects by path. What is applied is merged, what is deleted is gone."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.refuse: dict[str, int] = {}
        self.writes: list[str] = []

    def put(self, path: str, body: dict[str, Any]) -> None:
        self.objects[path] = body

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        for part, status in self.refuse.items():
            if part in path:
                raise RefusedError(status)
        if method == "GET":
            if path in self.objects:
                return copy.deepcopy(self.objects[path])
            below = [each for key, each in self.objects.items() if key.rpartition("/")[0] == path]
            return {"items": copy.deepcopy(below)}
        self.writes.append(f"{method} {path.rpartition('/namespaces/tasks/')[2]}")
        if method == "DELETE":
            del self.objects[path]
            return {}
        sub = path.endswith("/status")
        key = path.removesuffix("/status")
        old = self.objects.setdefault(key, {"metadata": {"uid": f"uid-{len(self.objects)}"}})
        if sub:
            old["status"] = body["status"]
        else:
            old |= {"spec": body["spec"]}
            old["metadata"] |= body["metadata"]
        return old


def make_node(name: str) -> dict[str, Any]:
    amounts = {"cpu": "8", "memory": GIB, "cumulet.dev/gpu-percent": "100"}
    status = {"allocatable": amounts, "conditions": [{"type": "Ready", "status": "True"}]}
    return {"metadata": {"name": name}, "spec": {}, "status": status}


def make_api(*tasks: dict[str, Any]) -> FakeApi:
    api = FakeApi()
    for name in ("p1", "p2"):
        api.put(f"/api/v1/nodes/{name}", make_node(name))
    api.refuse["/proxy/"] = 403
    for each in tasks:
        api.put(f"{TASKS}/{each['metadata']['name']}", each)
    return api


def make_task(name: str, at: int = 0, **more: Any) -> dict[str, Any]:
    profile = {"version": 1, "task": name, "image": f"{name}:1", "cpu": 15, **more}
    meta = {"name": name, "uid": f"task-{name}", "generation": 1, "creationTimestamp": f"2026-01-01T00:00:{at:02}Z"}
    return {"metadata": meta, "spec": {"profile": profile}}


def add_pod(api: FakeApi, task: str, node: str, phase: str = "Running", **more: Any) -> None:
    ready = [{"type": "Ready", "status": "True"}] if phase == "Running" else []
    labels = {"cumulet.dev/task": task, "cumulet.dev/place": "shares"}
    spec = {"containers": [{"resources": {"requests": {"cpu": "1200m"}}}], **({"nodeName": node} if node else {})}
    status = {"phase": phase, "conditions": more.get("conditions", ready), "containerStatuses": more.get("states", [])}
    name = f"{task}-{len(api.objects)}"
    pod = {"metadata": {"name": name, "namespace": "tasks", "labels": labels}, "spec": spec, "status": status}
    api.put(f"{PODS}/{name}", pod)
    api.put(f"/api/v1/pods/{name}", pod)


def look(api: FakeApi, tmp_path: Path, *, times: int = 1, told: list[str] | None = None) -> Dispatcher:
    """Some rounds of a dispatcher."""
    made = Dispatcher(api, "pier-7", (told if told is not None else []).append, out=tmp_path)

    async def story() -> None:
        for _ in range(times):
            await made.look()

    asyncio.run(story())
    return made


def status_of(api: FakeApi, name: str) -> dict[str, Any]:
    found: dict[str, Any] = api.objects[f"{TASKS}/{name}"]["status"]
    return found


def test_a_task_becomes_a_workload_that_goes_with_it_and_a_second_round_does_nothing(tmp_path: Path) -> None:
    api = make_api(make_task("detect"))
    look(api, tmp_path)
    made = api.objects[f"{WORKLOADS['Deployment']}/detect"]
    (owner,) = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"]) == ("Task", "task-detect")
    spec = made["spec"]["template"]["spec"]
    assert spec["schedulerName"] == "cumulet-packing"
    assert spec["containers"][0]["resources"]["requests"]["cpu"] == "1200m"
    assert spec["volumes"][0]["hostPath"]["path"] == str(tmp_path / "detect")
    assert status_of(api, "detect")["phase"] == "Starting"
    add_pod(api, "detect", "p1")
    made["status"] = {"readyReplicas": 1, "updatedReplicas": 1, "observedGeneration": 1}
    made["spec"]["replicas"] = 1
    look(api, tmp_path)
    found = status_of(api, "detect")
    assert (found["phase"], found["ready"], found["wanted"], json.loads(found["places"])) == (
        "Running", 1, 1, {"p1": "1/1"},
    )  # fmt: skip
    api.writes.clear()
    look(api, tmp_path, times=3)
    assert api.writes == []


def test_one_is_started_when_the_one_before_has_its_node(tmp_path: Path) -> None:
    api = make_api(make_task("b", 1), make_task("a", 2))
    dispatcher = look(api, tmp_path)
    assert api.writes == ["PATCH deployments/b", "PATCH tasks/b/status"]
    asyncio.run(dispatcher.look())
    assert "PATCH deployments/a" not in api.writes
    add_pod(api, "b", "p1")
    asyncio.run(dispatcher.look())
    assert "PATCH deployments/a" in api.writes


def test_what_has_no_place_waits_and_says_why_and_what_never_has_is_refused(tmp_path: Path) -> None:
    big = make_task("big", 1, cpu=60)
    api = make_api(big, make_task("gpu", 2, image="x", gpu=30), make_task("wrong", 3, cpu="much"))
    for node in ("p1", "p2"):
        add_pod(api, "other", node)
        api.objects[f"/api/v1/nodes/{node}"]["status"]["allocatable"]["cumulet.dev/gpu-percent"] = "0"
    look(api, tmp_path)
    assert status_of(api, "big")["phase"] == "Waiting"
    assert "busy: p1 (1 task), p2 (1 task)" in status_of(api, "big")["message"]
    assert (status_of(api, "gpu")["phase"], status_of(api, "gpu")["message"]) == (
        "Refused", "needs GPU, and no node here has that",
    )  # fmt: skip
    assert status_of(api, "wrong")["phase"] == "Refused"
    assert "cpu" in status_of(api, "wrong")["message"]
    assert [key for key in api.objects if key.startswith(tuple(WORKLOADS.values()))] == []
    # Somebody else leaves, and it has its place.
    for key in [key for key in api.objects if "other" in key]:
        del api.objects[key]
    look(api, tmp_path)
    assert status_of(api, "big")["phase"] == "Starting"


def test_a_site_without_a_node_for_tasks_says_so(tmp_path: Path) -> None:
    api = make_api(make_task("detect"))
    for node in ("p1", "p2"):
        api.objects[f"/api/v1/nodes/{node}"]["status"]["conditions"][0]["status"] = "False"
    look(api, tmp_path)
    assert status_of(api, "detect")["message"].startswith("pier-7: no node takes tasks")


def test_a_new_profile_changes_a_deployment_and_begins_a_job_again(tmp_path: Path) -> None:
    api = make_api(make_task("detect"), make_task("once", 1, runs="once"))
    dispatcher = look(api, tmp_path)
    add_pod(api, "detect", "p1")
    asyncio.run(dispatcher.look())
    add_pod(api, "once", "p1")
    assert api.objects[f"{WORKLOADS['Job']}/once"]["spec"]["backoffLimit"] == 20
    for name in ("detect", "once"):
        api.objects[f"{TASKS}/{name}"]["spec"]["profile"]["image"] = "new:2"
    api.writes.clear()
    for _ in range(4):
        asyncio.run(dispatcher.look())
    changes = [each for each in api.writes if "status" not in each]
    assert changes == ["PATCH deployments/detect", "DELETE jobs/once", "PATCH jobs/once"]
    assert api.objects[f"{WORKLOADS['Job']}/once"]["spec"]["template"]["spec"]["containers"][0]["image"] == "new:2"


def test_what_a_job_has_told_at_its_end_is_kept_once(tmp_path: Path) -> None:
    api = make_api(make_task("once", runs="once"))
    look(api, tmp_path)
    ended = {"terminated": {"exitCode": 0, "message": "42 ships"}}
    add_pod(api, "once", "p1", "Failed", states=[{"state": {"terminated": {"message": "lost power"}}}])
    add_pod(api, "once", "p2", "Succeeded", states=[{"state": ended}])
    job = api.objects[f"{WORKLOADS['Job']}/once"]
    job["status"] = {"conditions": [{"type": "Complete", "status": "True"}]}
    look(api, tmp_path)
    (path,) = (tmp_path / "once").iterdir()
    assert (path.name, path.read_text()) == (f"{job['metadata']['uid']}.txt", "42 ships")
    assert status_of(api, "once")["phase"] == "Done"
    assert json.loads(status_of(api, "once")["places"]) == {"p2": "1/1"}
    path.unlink()  # it has gone up
    look(api, tmp_path)
    assert list((tmp_path / "once").iterdir()) == []


def test_a_job_that_has_failed_and_a_container_that_cannot_start_say_why(tmp_path: Path) -> None:
    api = make_api(make_task("once", runs="once"), make_task("detect", 1))
    dispatcher = look(api, tmp_path)
    add_pod(api, "once", "p1", "Failed")
    asyncio.run(dispatcher.look())
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "no such image"}}
    add_pod(api, "detect", "p1", "Pending", states=[{"state": waiting}])
    failed = {"type": "Failed", "status": "True", "message": "Job has reached the specified backoff limit"}
    api.objects[f"{WORKLOADS['Job']}/once"]["status"] = {"conditions": [failed]}
    asyncio.run(dispatcher.look())
    assert (status_of(api, "once")["phase"], status_of(api, "once")["message"]) == ("Failed", failed["message"])
    assert status_of(api, "detect")["message"] == "ErrImagePull: no such image"


def test_an_object_that_is_not_wanted_stops_nobody_else(tmp_path: Path) -> None:
    api = make_api(make_task("bad"), make_task("good", 1))
    api.refuse["deployments/bad"] = 422
    look(api, tmp_path)
    assert status_of(api, "bad")["phase"] == "Refused"
    assert status_of(api, "good")["phase"] == "Starting"


def test_trouble_with_the_cluster_is_told_once_and_waited_out(tmp_path: Path) -> None:
    api, told = make_api(make_task("detect")), []
    api.refuse["/tasks"] = 503
    dispatcher = Dispatcher(api, "pier-7", told.append, out=tmp_path)

    async def story() -> None:
        work = asyncio.create_task(dispatcher.run(0.001))
        await asyncio.sleep(0.05)
        del api.refuse["/tasks"]
        while not any(text.startswith("detect: ") for text in told):
            await asyncio.sleep(0.001)
        work.cancel()

    asyncio.run(asyncio.wait_for(story(), 10))
    assert told[0] == "the cluster: refused with 503"
    assert told.count("the cluster: refused with 503") == 1
    assert "the cluster: is well again" in told


def test_where_nobody_has_sent_a_task_there_is_nothing_to_do(tmp_path: Path) -> None:
    api = make_api()
    look(api, tmp_path)
    api.refuse["cumulet.dev"] = 404  # the kind is not there yet
    look(api, tmp_path)
    assert api.writes == []


def test_its_account_may_write_in_one_namespace_only() -> None:
    objects = {body["kind"]: body for _, body in make_objects()}
    verbs = {verb for rule in objects["ClusterRole"]["rules"] for verb in rule["verbs"]}
    assert verbs == {"get", "list"}
    groups = {group for rule in objects["Role"]["rules"] for group in rule["apiGroups"]}
    assert "rbac.authorization.k8s.io" not in groups
    assert all(rule["resources"] != ["secrets"] for rule in objects["Role"]["rules"])


@pytest.mark.parametrize("name", ["other"])
def test_a_profile_of_another_name_is_refused(name: str, tmp_path: Path) -> None:
    task = make_task("detect")
    task["spec"]["profile"]["task"] = name
    api = make_api(task)
    look(api, tmp_path)
    assert status_of(api, "detect")["message"] == "task detect: its profile is that of other"
