"""A super container at a real API server, with the real scheduler and Job controller; the nodes are in the API only.

What a kubelet does is played: a pod that has a node becomes a process on this computer, and its end is reported.
The result comes through the API server's own proxy.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_servers import ApiServer, api_server, running_beside, unpack_programs
from super_members import Group, make_settings
from super_tasks import contribute, make_part

from cumulet.central import Json, Kube, load_access
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.kubernetes.scheduling import make_scheduler_config
from cumulet.supercontainer import Controller
from cumulet.supercontainer.objects import DOOR
from cumulet.tasks import TaskProfile, parse_profile

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]
MERGE = "application/merge-patch+json"
CONTROLLERS = "job-controller,serviceaccount-controller,garbage-collector-controller"
LINK, ADDRESS = "clsu0", "10.89.0.1"
NOTES = "batch.kubernetes.io/"
WHOLE = b"".join(make_part(index) for index in range(3))


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """An address of this computer's that API servers may proxy to, which they do not to the loopback one."""
    if os.geteuid() != 0:
        pytest.skip("a link of its own needs root")
    commands = [f"link add {LINK} type bridge", f"addr add {ADDRESS}/32 dev {LINK}", f"link set {LINK} up"]
    try:
        for command in commands:
            subprocess.run(["ip", *command.split()], check=True)
        yield ADDRESS
    finally:
        subprocess.run(["ip", "link", "del", LINK], check=False)


@pytest.fixture(scope="module")
def plane(lab_image: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API server, our scheduler, the Job controller, and four nodes that are ready."""
    folder = tmp_path_factory.mktemp("plane")
    programs = unpack_programs(lab_image, tmp_path_factory.mktemp("programs"))
    with api_server(folder, programs) as found:
        settings = folder / "scheduler.yaml"
        settings.write_text(yaml.safe_dump(make_scheduler_config(str(found.config), leaderElect=False)))
        words = ["--secure-port=0", f"--kubeconfig={found.config}", "--leader-elect=false"]
        commands = {
            "scheduler": ["kube-scheduler", f"--config={settings}", "--secure-port=0"],
            "controllers": ["kube-controller-manager", *words, f"--controllers={CONTROLLERS}"],
        }
        with running_beside(folder, programs, commands):
            asyncio.run(add_nodes(found, [f"p{number}" for number in range(1, 5)]))
            yield found


async def add_nodes(plane: ApiServer, names: list[str]) -> None:
    """Nodes of two processors."""
    kube = Kube(load_access(plane.config))
    amounts = {"cpu": "2", "memory": "4Gi", "pods": "64", "ephemeral-storage": "40Gi"}
    conditions = [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": ""}]
    status = {"capacity": amounts, "allocatable": amounts, "conditions": conditions}
    for name in names:
        meta = {"name": name, "labels": {"kubernetes.io/hostname": name}}
        await kube.call("POST", "/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": meta})
        # A new node is kept free until its kubelet says that it is ready, and here is none.
        await kube.call("PATCH", f"/api/v1/nodes/{name}", {"spec": {"taints": None}}, content=MERGE)
        await kube.call("PATCH", f"/api/v1/nodes/{name}/status", {"status": status}, content=MERGE)
    kube.close()


class Kubelet(threading.Thread):
    """Plays the kubelets of all nodes."""

    def __init__(self, plane: ApiServer, group: Group, space: str) -> None:
        super().__init__(daemon=True)
        self.seen: dict[str, Json] = {}
        self._plane, self._group, self._space = plane, group, space
        self._over = threading.Event()
        self._processes: dict[str, Any] = {}

    def __enter__(self) -> Kubelet:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()
        for process in self._processes.values():
            process.kill()
            process.join()

    def run(self) -> None:
        asyncio.run(self._play())

    async def _play(self) -> None:
        kube = Kube(load_access(self._plane.config))
        path = f"/api/v1/namespaces/{self._space}/pods"
        while not self._over.is_set():
            for pod in (await kube.call("GET", path))["items"]:
                name = pod["metadata"]["name"]
                self.seen[name] = pod
                if "deletionTimestamp" in pod["metadata"]:
                    if name in self._processes:
                        self._processes[name].kill()
                    await kube.call("DELETE", f"{path}/{name}", {"gracePeriodSeconds": 0})
                elif pod["spec"].get("nodeName") and pod["status"]["phase"] in ("Pending", "Running"):
                    await kube.call("PATCH", f"{path}/{name}/status", {"status": self._run_pod(pod)}, content=MERGE)
            await asyncio.sleep(0.1)
        kube.close()

    def _run_pod(self, pod: Json) -> Json:
        """The pod's status, which is that of a process."""
        name = pod["metadata"]["name"]
        if name not in self._processes:
            index = int(pod["metadata"]["annotations"][f"{NOTES}job-completion-index"])
            self._group.start(index)
            self._processes[name] = self._group.processes[index]
        code = self._processes[name].exitcode
        phase = {None: "Running", 0: "Succeeded"}.get(code, "Failed")
        state = {"running": {}} if code is None else {"terminated": {"exitCode": abs(code), "reason": "Error"}}
        container = {"name": "task", "image": "x", "imageID": "", "ready": True, "restartCount": 0, "state": state}
        return {"phase": phase, "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "containerStatuses": [container]}


def make_profile(name: str) -> TaskProfile:
    values = {"version": 1, "task": name, "image": "x:1", "cpu": 250, "memory": "64MiB", "mergeable": True}
    return parse_profile(json.dumps({**values, "runs": "once", "deadline": "5m"}), "task.yaml")


def run(plane: ApiServer, name: str, target: Path, told: list[str], wait: float = 60) -> None:
    async def act() -> None:
        kube = Kube(load_access(plane.config))
        try:
            await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
            controller = Controller(kube, name, told.append, pause=0.2)
            await controller.run(make_profile(name), target, wait=wait)
            path = f"/api/v1/namespaces/{name}"
            left = [await kube.call("GET", f"{path}/{kind}") for kind in ("services", "secrets")]
            assert [each["items"] for each in left] == [[], []]
            deadline = Deadline.after(30)
            while (await kube.call("GET", f"{path}/pods"))["items"]:
                deadline.check("the pods go with their job")
                await asyncio.sleep(0.2)
        finally:
            kube.close()

    asyncio.run(act())


@pytest.mark.usefixtures("address")
@pytest.mark.parametrize(
    ("name", "deaths"), [("whole", {}), ("member", {1: "sent"}), ("merging", {0: "merging"})], ids=str
)
def test_three_members_on_three_nodes_make_one_result_whoever_is_lost(
    plane: ApiServer, tmp_path: Path, name: str, deaths: dict[int, str]
) -> None:
    settings = make_settings(tmp_path, 3, listen="", seconds=200.0)
    merging = type(settings[0])(
        **{field: getattr(settings[0], field) for field in settings[0].__slots__} | {"door": DOOR}
    )
    group = Group([merging, *settings[1:]], contribute, deaths, forget=True)
    told: list[str] = []
    with Kubelet(plane, group, name) as kubelet:

        def token() -> bytes:
            return merging.token.encode()

        with pytest.MonkeyPatch.context() as patch:
            # The processes have the certificates that the test made; the Secret must hold the same token.
            patch.setattr("cumulet.supercontainer.control.make_trust", lambda job, size: {"token": token()})
            run(plane, name, tmp_path / "result", told)
    assert (tmp_path / "result").read_bytes() == WHOLE
    first = [pod for pod in kubelet.seen.values() if read_note(pod, "job-index-failure-count") == "0"]
    assert len({pod["spec"]["nodeName"] for pod in first}) == 3
    again = [read_note(pod, "job-completion-index") for pod in kubelet.seen.values() if pod not in first]
    assert again == [str(index) for index in deaths]


def read_note(pod: Json, name: str) -> str:
    return str(pod["metadata"]["annotations"].get(f"{NOTES}{name}", ""))


@pytest.mark.usefixtures("address")
def test_a_job_stays_suspended_while_nodes_are_busy(plane: ApiServer, tmp_path: Path) -> None:
    kube_pod = {
        "metadata": {"name": "busy", "labels": {"cumulet.dev/task": "other", "cumulet.dev/place": "whole"}},
        "spec": {
            "automountServiceAccountToken": False,
            "containers": [{"name": "x", "image": "x:1", "resources": {"requests": {"cpu": "1"}}}],
        },
    }

    async def keep_busy() -> None:
        kube = Kube(load_access(plane.config))
        await kube.call("POST", "/api/v1/namespaces", {"metadata": {"name": "others"}})
        for number in (1, 2):
            spec = {**kube_pod["spec"], "nodeName": f"p{number}"}
            meta = {**kube_pod["metadata"], "name": f"busy-{number}"}
            for _ in range(50):
                try:
                    await kube.call("POST", "/api/v1/namespaces/others/pods", {"metadata": meta, "spec": spec})
                    break
                except TargetError:
                    # The namespace's service account comes a moment later.
                    await asyncio.sleep(0.2)
        kube.close()

    async def look() -> Json:
        kube = Kube(load_access(plane.config))
        try:
            return await kube.call("GET", "/apis/batch/v1/namespaces/waits/jobs/waits")
        finally:
            kube.close()

    asyncio.run(keep_busy())
    with pytest.raises(TargetError) as caught:
        run(plane, "waits", tmp_path / "result", [], wait=0)
    assert caught.value.message.endswith("needs 3 whole nodes, 2 free (p3, p4); busy: p1 (other), p2 (other)")
    job = asyncio.run(look())
    assert (job["spec"]["suspend"], job["status"].get("active", 0)) == (True, 0)
