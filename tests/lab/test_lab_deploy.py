"""A task from the top through three tiers to a real site, and its results back: once, through a cut and a power cut.

Two hubs on real API servers, a station that is a hub and a cluster, a site of one device that was brought up like any
other. While the station is cut off from both sides the site loses its power in the middle of the task.
CUMULET_CUT_SECONDS is how long the station is away.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from api_servers import ApiServer, free_port
from hubs import let_in, make_config, open_agent, open_hub, until, wait_for_condition, write_token
from sites import get, up
from wires import Wire, open_wire

from cumulet.central import train
from cumulet.central.hub.process import Hub
from cumulet.central.protocol import AVAILABLE, CLUSTERS, make_hub_hash
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.dispatch import install
from cumulet.tasks import parse_profile, reach
from cumulet_qemu.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.timeout(1200)]
MakeLab = Callable[..., AbstractContextManager[Lab]]
CUT_SECONDS = float(os.environ.get("CUMULET_CUT_SECONDS", "120"))
GATEWAY, NODE = "10.67.0.1", "10.67.0.11"
OUT = "/var/lib/cumulet/out/count"
SITE = """\
version: 1
site: quay-3
distribution: kubeadm
nodes:
  - {{name: n1, address: 10.67.0.11, role: single}}
ssh: {{key: {key}, known_hosts: {known}}}
central: {{hub: "{hub}", token: {token}, authority: {authority}, claims: {{berth: "7"}}}}
"""
# The node's own Python runs in a container that has nothing but /pause of its own.
PROGRAM = """
import pathlib, time
out = pathlib.Path("/data/out")
def leave(name, text):
    (out / ".new").write_text(text)
    (out / ".new").rename(out / name)
def wait(name):
    while not (out / name).exists():
        time.sleep(0.1)
wait(".begin")
leave("first.txt", "1 ship")
wait(".end")
leave("last.txt", "42 ships")
pathlib.Path("/dev/termination-log").write_text("all seen")
"""
MODEL = "cumulet.dev/models/yolo@sha256:" + "ab" * 32
TRAINING = """
import os, pathlib
told = os.environ.get("CUMULET_INPUT", "weights")
pathlib.Path("/dev/termination-log").write_text(told if told != "weights" else "MODEL")
"""


def make_task(name: str, program: str) -> str:
    """A task that runs once, in the only image that every node has."""
    loader = ["/data/in/lib64/ld-linux-x86-64.so.2", "--library-path", "/data/in/lib/x86_64-linux-gnu"]
    document = {
        "version": 1,
        "task": name,
        "image": "cumulet.dev/pause:1.36.3",
        "command": [*loader, "/data/in/bin/python3", "-c", program],
        "environment": {"PYTHONHOME": "/data/in"},
        "data": {"input": "/usr"},
        "cpu": 10,
        "memory": "64MiB",
        "runs": "once",
    }
    return json.dumps(document)


def cumulet(*words: str | Path, code: int = 0) -> Any:
    """What a command answers, in JSON."""
    argv = [sys.executable, "-m", "cumulet_builder.cli", *map(str, words), "--json"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return json.loads(done.stdout) if code == 0 else done.stderr


@dataclass
class Results:
    """A tier's process for results, which is killed as a power cut does."""

    folder: Path
    words: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        words = [sys.executable, "-m", "cumulet.spool", "run", "--folder", str(self.folder), *self.words]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(words, stderr=log)

    def kill(self) -> None:
        if self.process is not None:
            assert self.process.poll() is None, (self.folder / "log").read_text()
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class World:
    """Everything of the story."""

    lab: Lab
    folder: Path
    top_server: ApiServer
    top: Hub
    station: Hub
    wires: list[Wire]
    results: dict[str, Results] = field(default_factory=dict)
    url: str = ""

    @property
    def config(self) -> Path:
        return self.top_server.config

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = cumulet("deploy", "status", "count", "--kubeconfig", self.config)
        return found

    def on_node(self, *words: str) -> str:
        return self.lab.node("n1").run(*words).out

    def touch(self, name: str) -> None:
        self.on_node("touch", f"{OUT}/{name}")

    def waiting(self) -> int:
        """How many results wait at the site."""
        return int(json.loads(self.on_node("python3", "-m", "cumulet.spool", "show"))["waiting"])

    def pods(self) -> list[dict[str, Any]]:
        found = get(self.lab, "pods", "-n", "tasks", "-l", "cumulet.dev/task=count", on="n1")["items"]
        return [each for each in found if each["status"]["phase"] == "Running"]


async def soon(what: str, check: Callable[[], Any], seconds: float = 120) -> Any:
    """The first answer of something that may fail on the way, asked in a thread."""
    last: list[object] = [None]

    async def ask() -> Any:
        try:
            return await asyncio.to_thread(check)
        except (AssertionError, OSError, ValueError, KeyError, IndexError) as error:
            last[0] = error
        except Exception as error:
            last[0] = error
        return None

    try:
        return await until(what, ask, seconds)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last[0]}") from None


def make_results(world: World, station: ApiServer, agent: Path) -> None:
    """The processes of station and top; the site has its own."""
    low, high = free_port(), free_port()
    world.url = f"https://127.0.0.1:{high}"
    for name, server, address in (("centre", world.top_server, "127.0.0.1"), ("station-1", station, GATEWAY)):
        certificate, key = server.authority.issue(name, addresses=[address])
        (world.folder / f"{name}.crt").write_text(certificate)
        (world.folder / f"{name}.key").write_text(key)

    def entry(name: str, server: ApiServer, address: str, port: int) -> list[str]:
        files = ["--authority", server.folder / "ca.crt", "--certificate", f"{world.folder}/{name}.crt"]
        words = ["--name", name, "--listen", address, "--port", port, *files, "--key", f"{world.folder}/{name}.key"]
        return [str(word) for word in words]

    above = ["--up", world.url, "--up-authority", str(world.top_server.folder / "ca.crt")]
    above += ["--up-certificate", str(agent / "agent.crt"), "--up-key", str(agent.parent / "device.key")]
    top = [*entry("centre", world.top_server, "127.0.0.1", high), "--trusted", "station-1", "--reader", "admin"]
    world.results["centre"] = Results(world.folder / "centre", top)
    world.results["station-1"] = Results(world.folder / "station", [*entry("station-1", station, GATEWAY, low), *above])
    agent_files = f"/var/lib/cumulet/agent/{make_hub_hash(world.wires[1].address)[:16]}/agent.crt"
    words = f"--name quay-3 --port 0 --collect /var/lib/cumulet/out --node n1 --up https://{GATEWAY}:{low}"
    words += f" --authority /etc/cumulet/agent/hub.crt --certificate {agent_files}"
    words += " --key /var/lib/cumulet/agent/device.key"
    unit = "[Service]\nExecStart=/usr/bin/python3 -m cumulet.spool run " + words + "\nRestart=always\nRestartSec=1\n"
    unit += "[Install]\nWantedBy=multi-user.target\n"
    world.lab.node("n1").run("sh", "-c", "cat >/etc/systemd/system/cumulet-results.service", input=unit)
    world.on_node("systemctl", "daemon-reload")
    world.on_node("systemctl", "enable", "--now", "cumulet-results.service")


@asynccontextmanager
async def open_world(lab: Lab, planes: dict[str, ApiServer], folder: Path) -> AsyncIterator[World]:
    """Three tiers that know each other, the site with its dispatcher, and the way up for results."""
    high, low = planes["hub"], planes["other"]
    async with AsyncExitStack() as stack:
        top = await stack.enter_async_context(open_hub(high))
        station = await stack.enter_async_context(open_hub(low))
        wires = [
            await stack.enter_async_context(open_wire(high.ports[0])),
            await stack.enter_async_context(open_wire(low.ports[0], GATEWAY)),
        ]
        config = make_config("station-1", [(high, await write_token(top, "station-1", folder))], folder)
        config = replace(config, hubs=(replace(config.hubs[0], server=wires[0].address),), tier="station")
        await stack.enter_async_context(open_agent(config, low))
        world = World(lab, folder, high, top, station, wires)
        await bring_up(world, low, await write_token(station, "quay-3", folder))
        for hub, name in ((station, "quay-3"), (top, "station-1")):
            await let_in(hub, name)
            await wait_for_condition(hub, name, AVAILABLE, "True", 120)
        agent = config.state / make_hub_hash(wires[0].address)[:16]
        await asyncio.to_thread(make_results, world, low, agent)
        try:
            for each in world.results.values():
                each.start()
            yield world
        finally:
            for each in world.results.values():
                each.kill()


async def bring_up(world: World, station: ApiServer, token: Path) -> None:
    """The site, by its document; then what takes tasks from the centre."""
    path = world.folder / "site.yaml"
    names = {"key": world.lab.key, "known": world.lab.known_hosts, "hub": world.wires[1].address, "token": token}
    path.write_text(SITE.format(**names, authority=station.folder / "ca.crt"))
    assert "register.agent@n1" in await asyncio.to_thread(up, path)
    async with reach(path) as reached:
        device = reached.device("n1")
        assert await install(reached.api, device, "quay-3", f"https://{NODE}:6443", print)
        assert not await install(reached.api, device, "quay-3", f"https://{NODE}:6443", print)


async def deploy(world: World) -> None:
    """From the top to the site, by what the site says of itself; elsewhere it has no place."""

    async def known() -> bool:
        found = (await world.top.kube.get(CLUSTERS, "station-1"))["status"]
        claims = {each["name"]: each["value"] for each in found.get("clusterClaims") or ()}
        return claims.get("values.cumulet.io/berth") == "7=1" and "memory" in found.get("allocatable", {})

    await until("the top knows what is below the station", known, 120)
    (world.folder / "count.yaml").write_text(make_task("count", PROGRAM))
    (world.folder / "far.yaml").write_text(make_task("far", PROGRAM))
    words = ("--kubeconfig", world.config)
    for document, berth in (("far.yaml", "8"), ("count.yaml", "7")):
        said = await asyncio.to_thread(
            cumulet, "deploy", world.folder / document, "--to", f"tier=edge,berth={berth}", *words
        )
        assert said["changed"]
    again = await asyncio.to_thread(cumulet, "deploy", world.folder / "count.yaml", "--to", "tier=edge,berth=7", *words)
    assert not again["changed"]

    def runs() -> bool:
        sites = world.status()["sites"]
        return bool(
            sites["station-1/quay-3"]["phase"] == "Running" and sites["station-1/quay-3"]["places"] == {"n1": "1/1"}
        )

    await soon("the top says that it runs on n1", runs)
    assert get(world.lab, "tasks.cumulet.dev", "-n", "tasks", on="n1")["items"][0]["metadata"]["name"] == "count"
    far = await asyncio.to_thread(cumulet, "deploy", "status", "far", *words)
    assert (far["problem"], far["sites"]) == ("no cluster matches", {})


async def lose_power(world: World) -> None:
    """The site's power goes and comes back; its task begins again where it was, with nobody above."""
    before = {each["metadata"]["name"] for each in world.pods()}
    assert len(before) == 1
    await asyncio.to_thread(world.touch, ".begin")
    await soon("the first result is kept at the site", lambda: world.waiting() == 1)
    node = world.lab.node("n1")
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(world.lab.start, [node])
    await soon("the task runs again", lambda: len(world.pods()) == 1 and world.pods()[0]["status"]["phase"], 300)
    await asyncio.to_thread(world.touch, ".end")

    def done() -> bool:
        job = get(world.lab, "job", "count", "-n", "tasks", on="n1")
        return any(each["type"] == "Complete" and each["status"] == "True" for each in job["status"]["conditions"])

    await soon("it is done, with nobody above", done, 300)
    await soon("all three results are kept at the site", lambda: world.waiting() == 3, 180)


async def story(lab: Lab, planes: dict[str, ApiServer], folder: Path) -> None:
    async with open_world(lab, planes, folder) as world:
        await deploy(world)
        begin = time.monotonic()
        for wire in world.wires:
            wire.frozen = True
            wire.cut()
        world.results["station-1"].kill()
        await lose_power(world)
        assert world.status()["sites"]["station-1/quay-3"]["phase"] == "Running"
        await asyncio.sleep(max(0.0, begin + CUT_SECONDS - time.monotonic()))
        for wire in world.wires:
            wire.frozen = False
            wire.cut()
        world.results["station-1"].start()
        # So does the process that sends: it need not wait until it would have tried again.
        world.on_node("systemctl", "kill", "--signal=KILL", "cumulet-results.service")

        def fetch() -> list[dict[str, Any]]:
            words = ("--to", folder / "here", "--from", world.url, "--kubeconfig", world.config)
            found: list[dict[str, Any]] = cumulet("deploy", "results", "count", *words)
            return found

        await soon("all results are at the top", lambda: len(fetch()) == 3, 400)
        await soon("nothing is left at the site", lambda: world.waiting() == 0)
        found = {path.name: path.read_text() for path in (folder / "here/quay-3").iterdir()}
        assert {name: found.pop(name) for name in ("first.txt", "last.txt")} == {
            "first.txt": "1 ship",
            "last.txt": "42 ships",
        }
        assert list(found.values()) == ["all seen"]
        assert not any(each["new"] for each in fetch())
        await soon("the top says that it is done", lambda: world.status()["counts"] == {"Done": 1}, 200)
        await check_training(folder)
        await take_away(world)
        world.results["centre"].kill()
        with sqlite3.connect(f"file:{folder}/centre/inbox/ledger.sqlite?mode=ro", uri=True) as ledger:
            counted = ledger.execute(
                "select count(*), count(distinct id), min(origin), min(peer) from uploads"
            ).fetchall()
        ledger.close()
        assert counted == [(3, 3, "quay-3", "station-1")]


async def check_training(folder: Path) -> None:
    """Jobs on a real cluster make a model for a task; the same ones again are not run again."""
    train_job = parse_profile(make_task("train", TRAINING.replace("MODEL", MODEL)), "train.yaml")
    package = parse_profile(make_task("package", TRAINING), "package.yaml")
    fails = parse_profile(make_task("fails", "raise SystemExit(3)"), "fails.yaml")
    task = parse_profile(make_task("detect", PROGRAM), "detect.yaml")
    async with reach(folder / "site.yaml") as reached:
        told: list[str] = []
        kube: Any = reached.api
        made = await train(kube, task, [train_job, package], Deadline.after(120), told.append)
        assert made.profile.model == MODEL
        assert made.job.startswith("package-")
        begin = time.monotonic()
        assert await train(kube, task, [train_job, package], Deadline.after(5), told.append) == made
        assert time.monotonic() - begin < 5
        with pytest.raises(TargetError, match=r"fails-\w+: .* after 3 s"):
            await train(kube, task, [fails], Deadline.after(3), told.append)


async def take_away(world: World) -> None:
    """Gone at the top is gone everywhere."""
    words = ("--kubeconfig", world.config, "--yes", "--wait", "2m")
    said = await asyncio.to_thread(cumulet, "deploy", "remove", "count", *words)
    assert said == {"deployment": "count", "removed": True}

    def left() -> list[str]:
        items = [get(world.lab, kind, "-n", "tasks", on="n1")["items"] for kind in ("tasks.cumulet.dev", "jobs")]
        return [
            each["metadata"]["name"] for several in items for each in several if each["metadata"]["name"] == "count"
        ]

    await soon("it is gone at the site", lambda: not left())


def test_a_task_from_the_top_runs_at_the_right_site_and_its_results_arrive_once(
    lab: MakeLab, planes: dict[str, ApiServer], tmp_path: Path
) -> None:
    with lab("dep", 1, "10.67.0.0/24") as found:
        asyncio.run(story(found, planes, tmp_path))
