"""A task of two and a half nodes in a real cluster: three whole nodes, one result, whichever of them loses its power.

The tests of this file go on from each other: one site, in the order of the file.
"""

from __future__ import annotations

import array
import asyncio
import importlib.util
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from kubectl_api import Kubectl
from sites import bring_file, bring_image, get, kubectl, until, up, write_site

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.packing import Decision
from cumulet.supercontainer import Controller, Fetched
from cumulet.tasks import TaskProfile, find_absence, parse_profile, submit, write_profile
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1800)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
NODE_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
SIDE = 90
# A product of two matrices, of which each member makes some rows. The node's own Python runs it.
MATRIX = """
import array

def cell(row, column, seed):
    return (row * 7919 + column * 104729 + seed) % 1000003 - 500001

def make_rows(rows, side):
    right = [[cell(row, column, 2) for column in range(side)] for row in range(side)]
    columns = list(zip(*right))
    left = ([cell(row, column, 1) for column in range(side)] for row in rows)
    return array.array("q", (sum(a * b for a, b in zip(row, column)) for row in left for column in columns)).tobytes()
"""
TASK = (
    MATRIX
    + """
import logging, os, time
from cumulet.supercontainer import member
logging.basicConfig(level="INFO", format="%(asctime)s %(message)s")
rows = make_rows(member.shard(range(SIDE)), SIDE)
time.sleep(HOLD if member.setting.attempt == 0 else 0)
member.contribute(rows)
""".replace("SIDE", str(SIDE))
)


EXAMPLES = Path(__file__).parents[2] / "docs/examples"
INPUT = "/var/lib/cumulet/example"


def whole_product() -> bytes:
    """The same on one node."""
    names: dict[str, Any] = {"array": array}
    exec(MATRIX, names)
    return bytes(names["make_rows"](range(SIDE), SIDE))


def make_task(name: str, hold: float, program: str = TASK, deadline: str = "10m") -> TaskProfile:
    """A container that has nothing but /pause of its own, and the node's /usr at /data/in."""
    loader = ["/data/in/lib64/ld-linux-x86-64.so.2", "--library-path", "/data/in/lib/x86_64-linux-gnu"]
    values = {
        "version": 1,
        "task": name,
        "image": "cumulet.dev/pause:1.36.3",
        "command": [*loader, "/data/in/bin/python3", "-c", program.replace("HOLD", str(hold))],
        "environment": {"PYTHONHOME": "/data/in", "PYTHONPATH": "/data/in/lib/python3/dist-packages"},
        "data": {"input": "/usr"},
        "cpu": 250,
        "memory": "256MiB",
        "mergeable": True,
        "runs": "once",
        "deadline": deadline,
    }
    return parse_profile(json.dumps(values), f"{name}.yaml")


@pytest.fixture(scope="module")
def four(lab: MakeLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A site of four nodes that all take work: three for the members, one to replace one of them."""
    with lab("su", 4, "10.87.0.0/24") as found:
        up(write_site(found, tmp_path_factory.mktemp("site"), 4, "workers: all\n"))
        until("metrics are there", lambda: "cpu" in kubectl(found, "get", "--raw", NODE_METRICS), 240)
        yield found


class Run(threading.Thread):
    """A super container that is followed by somebody, as `cumulet super run` does it."""

    def __init__(self, api: Kubectl, profile: TaskProfile, target: Path) -> None:
        super().__init__(daemon=True)
        self.told: list[str] = []
        self.target = target
        self.fetched: Fetched | None = None
        self.error: Exception | None = None
        self._profile = profile
        self._controller = Controller(api, "default", self.told.append)
        self.start()

    def run(self) -> None:
        try:
            self.fetched = asyncio.run(self._controller.run(self._profile, self.target, wait=240))
        except Exception as error:
            self.error = error

    def wait_for_members(self, lab: Lab, name: str) -> None:
        """Until three of them run. Raises what the controller raises before that."""

        def three() -> bool:
            return self.error is not None or len(places(lab, name, "n2")) == 3

        until("three members run", three, 180)
        if self.error is not None:
            self.finish(1)

    def finish(self, seconds: float) -> bytes:
        """What came. Raises what it raised."""
        self.join(seconds)
        if isinstance(self.error, TargetError):
            self.error.message += "\n" + "\n".join(self.told)
        if self.error is not None:
            raise self.error
        assert self.fetched is not None, self.told
        return self.target.read_bytes()


def places(lab: Lab, name: str, on: str) -> dict[int, str]:
    """Index -> node of the members that run."""
    found = {}
    for pod in get(lab, "pods", "-l", f"batch.kubernetes.io/job-name={name}", on=on)["items"]:
        if pod["status"]["phase"] == "Running" and "deletionTimestamp" not in pod["metadata"]:
            index = int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
            found[index] = pod["spec"]["nodeName"]
    return found


def test_a_task_of_250_percent_is_three_whole_nodes_and_its_result_is_that_of_one(four: Lab, tmp_path: Path) -> None:
    run = Run(Kubectl(four, "n2"), make_task("matrix", 5), tmp_path / "result")
    run.wait_for_members(four, "matrix")
    assert len(set(places(four, "matrix", "n2").values())) == 3
    assert run.finish(180) == whole_product()
    until("nothing is left", lambda: get(four, "jobs,secrets,services,pods")["items"][1:] == [], 60)


@pytest.fixture(scope="module")
def image(four: Lab, super_image: Path) -> str:
    """The container `runtime-super` on every node; its name."""
    about = json.loads((super_image / "container.json").read_text())
    bring_image(four, super_image / "image.oci.tar", {about["name"]: about["digest"]})
    return str(about["name"])


def make_example(name: str, image: str, command: list[str]) -> TaskProfile:
    """A task in a container that has what it needs."""
    values = {
        "version": 1,
        "task": name,
        "image": image,
        "command": ["python3", *command],
        "data": {"input": INPUT},
        "cpu": 250,
        "memory": "384MiB",
        "mergeable": True,
        "runs": "once",
        "deadline": "4m",
    }
    return parse_profile(json.dumps(values), f"{name}.yaml")


def load_example(name: str) -> Any:
    """A program of docs/examples as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_on_device(lab: Lab, profile: TaskProfile, folder: Path) -> Any:
    """Started and fetched by the commands of a node itself, which is all that a site without a laptop has."""
    (folder / "task.yaml").write_text(write_profile(profile))
    bring_file(lab, folder / "task.yaml", f"{INPUT}/task.yaml")

    def cumulet(*words: str) -> str:
        return lab.node("n2").run("cumulet", *words, "--kubeconfig", "/etc/kubernetes/admin.conf").out

    lines = [line.split() for line in cumulet("task", "run", f"{INPUT}/task.yaml").splitlines()]
    assert [words[0] for words in lines[:3]] == [f"{profile.task}-{index}" for index in range(3)]
    assert len({words[1] for words in lines[:3]}) == 3
    assert " ".join(lines[3]).startswith(f"{profile.task}: a super container of 3 members")
    said = cumulet("super", "result", profile.task, "--out", "/var/tmp/result", "--wait", "240")
    assert said.startswith("/var/tmp/result: json, ")
    return json.loads(lab.node("n2").run("cat", "/var/tmp/result").out)


def run_example(lab: Lab, profile: TaskProfile, target: Path, **more: str) -> Any:
    """The same from outside, with another engine."""
    api = Kubectl(lab, "n2")
    controller = Controller(api, "default", print)

    async def spread(each: TaskProfile, decision: Decision) -> None:
        await controller.start(each, decision, wait=60, **more)

    async def go() -> None:
        done = await submit(api, [profile], spread=spread)
        assert done.differences == ()
        assert list(done.places) == [f"{profile.task}-{index}" for index in range(3)]
        assert len(set(done.places.values())) == 3
        status = await controller.follow(profile.task, Deadline.after(240))
        await controller.fetch(profile.task, status, target)
        await controller.remove(profile.task)

    asyncio.run(go())
    return json.loads(target.read_text())


def test_a_folder_of_pictures_is_classified_by_three_nodes_as_by_one(four: Lab, image: str, tmp_path: Path) -> None:
    """Worked example 1: ONNX Runtime over shards of a folder; pictures and model are made here."""
    folder = tmp_path / "example"
    load_example("make_model").main(folder)
    shutil.copy(EXAMPLES / "classify.py", folder)
    bring_file(four, folder, INPUT)
    profile = make_example("pictures", image, ["/data/in/classify.py", "/data/in/pictures", "/data/in/model.onnx"])
    found = run_on_device(four, profile, tmp_path)
    paths = sorted((folder / "pictures").glob("*.npy"))
    assert found == load_example("classify").classify(paths, folder / "model.onnx")
    # The kind is the last letter of the name: it is the pictures that were looked at.
    assert sum(int(name[-5]) == kind for name, kind in found) >= 57


def test_a_dask_job_on_three_nodes_has_the_result_of_one(four: Lab, image: str, tmp_path: Path) -> None:
    bring_file(four, EXAMPLES / "points.py", f"{INPUT}/points.py")
    profile = make_example("dask", image, ["/data/in/points.py"])
    found = run_example(four, profile, tmp_path / "result", engine="dask")
    points = load_example("points")
    # The members that do not merge have worked, and nobody else.
    hits = sum(map(points.count_hits, range(points.PIECES)))
    assert found == {"hits": hits, "points": points.PIECES * points.POINTS, "workers": ["dask-1", "dask-2"]}
    until("nothing is left", lambda: get(four, "jobs,secrets,services,pods")["items"][1:] == [], 60)


@pytest.mark.parametrize("index", [1, 0], ids=["a member", "the merging member"])
def test_the_result_is_the_same_when_the_power_of_a_node_is_lost(four: Lab, tmp_path: Path, index: int) -> None:
    api = Kubectl(four, "n2")
    name = f"lost-{index}"
    run = Run(api, make_task(name, 30), tmp_path / "result")
    run.wait_for_members(four, name)
    victim = places(four, name, "n2")[index]
    api.on = on = "n3" if victim == "n2" else "n2"
    four.node(victim).kill()
    try:
        assert run.finish(420) == whole_product()
        assert any("1 replaced" in line for line in run.told), run.told
    finally:
        four.start([four.node(victim)])
        until("all take work again", lambda: not any(map(find_absence, get(four, "nodes", on=on)["items"])), 180)
        # What ran on the victim is known to be over only now that its node can say so.
        until("nothing is left", lambda: get(four, "pods", on=on)["items"] == [], 120)


def test_too_few_nodes_are_counted_and_what_the_busy_ones_do_is_named(four: Lab, tmp_path: Path) -> None:
    busy = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "busy", "labels": {"cumulet.dev/task": "busy", "cumulet.dev/place": "whole"}},
        "spec": {
            "nodeName": "n4",
            "containers": [{"name": "pause", "image": "cumulet.dev/pause:1.36.3", "imagePullPolicy": "Never"}],
        },
    }
    four.node("n2").run(
        "kubectl", "--kubeconfig=/etc/kubernetes/admin.conf", "apply", "-f", "-", input=json.dumps(busy)
    )
    kubectl(four, "cordon", "n3")
    try:
        controller = Controller(Kubectl(four, "n2"), "default", print)
        with pytest.raises(TargetError) as caught:
            asyncio.run(controller.run(make_task("many", 0), tmp_path / "result", wait=0))
        # The emptier node is named first.
        message = caught.value.message.replace("(n2, n1)", "(n1, n2)")
        assert "needs 3 whole nodes, 2 free (n1, n2); busy: n4 (busy); away: n3 (cordoned)" in message
        kubectl(four, "delete", "job,service,secret", "many", "--ignore-not-found")
    finally:
        kubectl(four, "uncordon", "n3")
        kubectl(four, "delete", "pod", "busy", "--wait", "--grace-period=0", "--force")


def test_a_member_that_never_reports_is_named_with_its_node(four: Lab, tmp_path: Path) -> None:
    program = TASK.replace("member.contribute(rows)", "time.sleep(600 if member.index == 1 else 0)\n") + (
        "member.contribute(rows)\n"
    )
    run = Run(Kubectl(four, "n2"), make_task("silent", 0, program, "20s"), tmp_path / "result")
    run.wait_for_members(four, "silent")
    node = places(four, "silent", "n2")[1]
    with pytest.raises(TargetError) as caught:
        run.finish(120)
    assert f"member 1 of 3 has not contributed within 20 s: member 1 is on {node}, Running" in caught.value.message
    kubectl(four, "delete", "job,service,secret", "silent")
