"""Tasks in a real cluster: where they run is what was planned, and their number follows the load.

The tests of this file go on from each other: one site, in the order of the file.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from kubectl_api import Kubectl
from sites import get, kubectl, until, up, write_site

from cumulet.central.pulse import read_pulse
from cumulet.core.quantities import parse_size
from cumulet.kubernetes import PACKING_SCHEDULER
from cumulet.models import PREFIX, Release, Switch, build_model, prune_models, read_pins, return_model, roll_model
from cumulet.monitor import BALANCER, Bin, Recorder, Reports, install, load_usage, make_measured, read_ring
from cumulet.packages import make_key
from cumulet.site.parts import read_script
from cumulet.tasks import (
    EdgeProfile,
    Measured,
    TaskProfile,
    find_free_space,
    measure,
    parse_profile,
    reach,
    read_edge,
    submit,
)
from cumulet.uplink import load_status
from cumulet_qemu.lab.container import Container
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(2400)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
LOAD = "/var/lib/cumulet/load"
# The node's own Python runs in a container that has nothing but /pause of its own.
PROGRAM = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit())
while True:
    if pathlib.Path("/data/out/busy").exists():
        end = time.monotonic() + 0.09
        while time.monotonic() < end:
            pass
        time.sleep(0.01)
    else:
        time.sleep(0.5)
"""


CHECK = """
import pathlib
found = pathlib.Path("/models/yolo/accuracy.json").read_text()
pathlib.Path("/dev/termination-log").write_text(found)
"""


def python(program: str) -> list[str]:
    """The command that runs a program in a container which has the node's /usr at /data/in."""
    loader = ["/data/in/lib64/ld-linux-x86-64.so.2", "--library-path", "/data/in/lib/x86_64-linux-gnu"]
    return [*loader, "/data/in/bin/python3", "-c", program]


def make_task(name: str, cpu: float, extra: str = "") -> TaskProfile:
    command = json.dumps(python(PROGRAM))
    text = (
        f"version: 1\ntask: {name}\nimage: cumulet.dev/pause:1.36.3\ncpu: {cpu}\nmemory: 64MiB\n"
        f"command: {command}\nenvironment: {{PYTHONHOME: /data/in}}\n"
        f"data: {{input: /usr, output: {LOAD}}}\n{extra}"
    )
    return parse_profile(text, f"{name}.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where site.yaml is."""
    return tmp_path_factory.mktemp("site")


@pytest.fixture(scope="module")
def three(lab: MakeLab, folder: Path) -> Iterator[Lab]:
    """A site of three nodes that all take work."""
    with lab("tk", 3, "10.83.0.0/24") as found:
        up(write_site(found, folder, 3, "workers: all\n"))
        until("metrics are there", lambda: "cpu" in kubectl(found, "get", "--raw", NODE_METRICS), 240)
        yield found


NODE_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"


@pytest.fixture(scope="module")
def api(three: Lab) -> Kubectl:
    return Kubectl(three, "n2")


def pods_of(lab: Lab, task: str) -> list[dict[str, str]]:
    """Node and state of a task's pods."""
    items = get(lab, "pods", "-l", f"cumulet.dev/task={task}")["items"]
    return [{"node": pod["spec"].get("nodeName", ""), "phase": pod["status"]["phase"]} for pod in items]


def test_where_pods_run_is_what_the_rule_has_planned(three: Lab, api: Kubectl) -> None:
    edge = asyncio.run(read_edge(api, "pier-7"))
    assert [node.name for node in edge.nodes] == ["n1", "n2", "n3"]
    tasks = [*(make_task(f"small-{number}", 15) for number in range(5)), make_task("big", 60)]
    done = asyncio.run(submit(api, tasks))
    assert done.plan.groups() == {frozenset(f"small-{number}" for number in range(5)), frozenset({"big"})}
    assert done.differences == ()
    until(
        "all of them run", lambda: all(pod["phase"] == "Running" for t in tasks for pod in pods_of(three, t.task)), 90
    )
    small = {pod["node"] for number in range(5) for pod in pods_of(three, f"small-{number}")}
    big = {pod["node"] for pod in pods_of(three, "big")}
    assert (len(small), len(big), small & big) == (1, 1, set())
    schedulers = {pod["spec"]["schedulerName"] for pod in get(three, "pods", "-l", "cumulet.dev/task")["items"]}
    assert schedulers == {PACKING_SCHEDULER}
    seen = {node.name: (node.tasks, node.whole) for node in asyncio.run(read_edge(api, "pier-7")).nodes}
    assert seen[next(iter(small))] == (tuple(f"small-{number}" for number in range(5)), "")
    assert seen[next(iter(big))] == ((), "big")


def test_the_same_edge_is_seen_by_an_operator_who_comes_over_ssh(three: Lab, api: Kubectl, folder: Path) -> None:
    async def look() -> EdgeProfile:
        async with reach(folder / "site.yaml") as reached:
            return await read_edge(reached.api, reached.name)

    seen, known = asyncio.run(look()), asyncio.run(read_edge(api, "pier-7"))
    assert seen.edge == "pier-7"
    assert [node.room for node in seen.nodes] == [node.room for node in known.nodes]
    assert find_free_space(seen) > 1 << 30
    assert any(node.load.cpu > 0 for node in seen.nodes)


def test_one_more_goes_to_the_same_node_until_it_is_full(three: Lab, api: Kubectl) -> None:
    small = pods_of(three, "small-0")[0]["node"]
    done = asyncio.run(submit(api, [make_task("more", 12)]))
    assert (done.differences, done.places["more"]) == ((), small)
    done = asyncio.run(submit(api, [make_task("over", 19)]))
    assert done.differences == ()
    assert done.places["over"] not in (small, pods_of(three, "big")[0]["node"])
    kubectl(three, "delete", "deployments", "--all", "--wait", "--timeout=90s")
    until("they are gone", lambda: get(three, "pods")["items"] == [], 90)


def test_a_task_is_measured_on_a_node(three: Lab, folder: Path) -> None:
    three.node("n3").run("sh", "-c", f"mkdir -p {LOAD}; touch {LOAD}/busy")
    declared = make_task("burn", 5)

    async def watch() -> Measured:
        async with reach(folder / "site.yaml") as reached:
            device = reached.device("n3")

            async def run(argv: Sequence[str], text: str, seconds: float) -> str:
                return (await device.run(argv, input=text, seconds=seconds)).out

            return await measure(reached.api, run, declared, "n3", 8)

    found = asyncio.run(watch())
    three.node("n3").run("rm", "-f", f"{LOAD}/busy")
    # One thread of a program that pauses a tenth of the time; the computer is shared with others.
    one = 100 / found.cpus
    assert 0.3 * one < found.cpu <= 1.05 * one
    assert 1 <= parse_size(found.memory) >> 20 < 64
    assert (found.node, found.gpu_seen) == ("n3", False)
    until("it is gone", lambda: get(three, "pods")["items"] == [], 60)


def test_the_recorder_runs_on_the_control_node(three: Lab, folder: Path) -> None:
    async def act() -> bool:
        async with reach(folder / "site.yaml") as reached:
            device = reached.device(reached.control)
            return await install(reached.api, device, reached.name, BALANCER, print)

    assert asyncio.run(act())
    ring = folder / "load.ring"

    def fetch() -> list[Bin]:
        done = three.node("n1").run("base64", "-w0", "/var/lib/cumulet/monitor/load.ring")
        ring.write_bytes(base64.b64decode(done.out))
        return read_ring(ring, time.time())

    until("there is a sample", lambda: len(fetch()) == 1, 90)
    assert fetch()[0].values[2] > 0
    assert not asyncio.run(act())

    def look() -> bool:
        done = three.node("n1").run("cat", "/run/cumulet/pulse.json", "/run/cumulet/status.json", check=False)
        return done.code == 0

    until("it is told to the agent and to the sky", look, 30)
    pulse = read_pulse(three.node("n1").run("cat", "/run/cumulet/pulse.json").out.strip())
    status = load_status(three.node("n1").run("cat", "/run/cumulet/status.json").out)
    assert (pulse.nodes, status.nodes, status.ready) == ((3, 3), 3, 3)
    assert (pulse.load[2] > 0, pulse.window[1]) == (True, 1800)
    assert (status.servers_ready == status.servers > 0, status.alarms) == (True, ())
    # What a power cut leaves is gone on with.
    three.node("n1").run("systemctl", "kill", "--signal=KILL", "cumulet-monitor.service")
    assert len(fetch()) == 1


def test_the_number_of_containers_follows_the_load_and_reports_say_so(three: Lab, api: Kubectl, tmp_path: Path) -> None:
    grows = make_task("grows", 10, "replicas: {least: 1, most: 3, target: 50, calm: 15s}\n")
    done = asyncio.run(submit(api, [grows]))
    assert done.differences == ()
    recorder = Recorder(api, "pier-7", tmp_path)

    def replicas() -> int:
        asyncio.run(recorder.sample(time.time()))
        return len(pods_of(three, "grows"))

    until("one runs", lambda: replicas() == 1 and pods_of(three, "grows")[0]["phase"] == "Running", 90)
    until("the autoscaler has looked", lambda: replicas() == 1 and bool(recorder.reports.load_known()), 120)
    for node in three.nodes:
        node.run("sh", "-c", f"mkdir -p {LOAD}; touch {LOAD}/busy")
    until("there are three of them", lambda: replicas() == 3, 240)
    for node in three.nodes:
        node.run("rm", "-f", f"{LOAD}/busy")
    until("there is one again", lambda: replicas() == 1, 300)
    recorder.close()
    reports = [json.loads(path.read_text()) for path in Reports(tmp_path / "reports").list_reports()]
    assert (reports[0]["before"], reports[-1]["after"]) == (1, 1)
    assert max(report["after"] for report in reports) == 3
    assert all(report["task"] == "grows" and report["site"] == "pier-7" for report in reports)
    assert "% of what was asked for, wanted are 50 %" in reports[0]["why"]
    measured = make_measured(load_usage(tmp_path, "default", "grows", time.time()), cpus=2)
    assert measured is not None
    # It was declared to need 10 % of a node and has used much more.
    assert measured.cpu > 15
    load = read_ring(tmp_path / "load.ring", time.time())
    assert max(each.values[3] for each in load) > 5
    kubectl(three, "delete", "horizontalpodautoscalers,deployments", "--all", "--wait", "--timeout=90s")
    until("they are gone", lambda: get(three, "pods")["items"] == [], 90)


def bring(three: Lab, folder: Path, key: Path, revision: str, accuracy: float) -> Release:
    """A model on every node, imported as a bring-up does."""
    (folder / revision).mkdir()
    (folder / revision / "accuracy.json").write_text(json.dumps({"accuracy": accuracy, "latency": 12.5}))
    (folder / revision / "weights.bin").write_bytes(bytes(2 << 20))
    archive = folder / f"{revision}.oci"
    release = build_model(folder / revision, archive, "yolo", revision, key)
    names = [release.reference, f"{PREFIX}yolo:{revision}"]
    words = ["import", "/var/tmp/model.oci", *(f"{name}={release.digest}" for name in names)]
    for node in three.nodes:
        node.run("sh", "-c", "base64 -d >/var/tmp/model.oci", input=base64.b64encode(archive.read_bytes()).decode())
        node.run("sh", "-s", "--", *words, input=read_script("images.sh"))
    return release


def models_of(three: Lab) -> set[str]:
    """The models that the containers of the task have, all of them ready."""
    items = get(three, "pods", "-l", "cumulet.dev/task=detect")["items"]
    items = [each for each in items if "deletionTimestamp" not in each["metadata"]]
    assert all(each["status"]["containerStatuses"][0]["ready"] for each in items)
    return {each["spec"]["volumes"][-1]["image"]["reference"] for each in items}


def test_a_model_is_switched_and_a_bad_one_goes_back_by_itself(three: Lab, api: Kubectl, tmp_path: Path) -> None:
    make_key(tmp_path / "key.pem")
    old, new, bad = (
        bring(three, tmp_path, tmp_path / "key.pem", revision, accuracy)
        for revision, accuracy in (("1", 0.92), ("2", 0.97), ("3", 0.41))
    )
    check = json.dumps({"command": python(CHECK), "accuracy": 0.9, "latency": 100})
    text = f"model: {old.reference}\nreplicas: {{least: 2}}\ncheck: {check}\n"
    detect = make_task("detect", 10, text)
    asyncio.run(submit(api, [detect]))
    until("it runs with the first model", lambda: models_of(three) == {old.reference}, 120)
    told: list[str] = []
    done = asyncio.run(roll_model(Switch(api, detect, new.reference, "image", "default", told.append)))
    assert (done.changed, done.returned, len(done.checks)) == (True, False, 2)
    assert [each.accuracy for each in done.checks] == [0.97, 0.97]
    assert models_of(three) == {new.reference}
    assert not asyncio.run(roll_model(Switch(api, detect, new.reference, "image", "default", told.append))).changed
    done = asyncio.run(roll_model(Switch(api, detect, bad.reference, "image", "default", told.append)))
    assert done.returned
    assert done.reason.endswith("accuracy 0.41, at least 0.9 is wanted")
    assert models_of(three) == {new.reference}
    missing = new.reference[:-8] + "00000000"
    done = asyncio.run(roll_model(Switch(api, detect, missing, "image", "default", told.append, seconds=30)))
    assert done.returned
    assert "not ready after 30 s with yolo@" in done.reason
    assert models_of(three) == {new.reference}
    run = {node.node.name: make_runner(node) for node in three.nodes}
    going, staying = asyncio.run(prune_models(run, asyncio.run(read_pins(api))))
    assert ({each.reference for each in going}, len(going)) == ({bad.reference}, 3)
    # The one before stays: going back to it must not need the uplink.
    assert ({each.reference for each in staying}, len(staying)) == ({new.reference, old.reference}, 6)
    assert asyncio.run(return_model(Switch(api, detect, "", "image", "default", told.append))).after == old.reference
    assert models_of(three) == {old.reference}


def make_runner(node: Container) -> Callable[[str, Sequence[str]], Awaitable[str]]:
    async def run(script: str, words: Sequence[str]) -> str:
        return await asyncio.to_thread(lambda: node.run("sh", "-s", "--", *words, input=script).out)

    return run
