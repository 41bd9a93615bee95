"""The agent on bad links and at bad times: slow, frozen, narrow, restarted, with a wrong clock, under another hub."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from api_servers import ApiServer
from hubs import let_in, make_config, open_agent, open_hub, until, wait_for_condition, wait_for_work, write_token
from wires import FAR, HUB_ADDRESS, SITE_ADDRESS, Wire, narrow_network, open_wire

from cumulet.central.agent import vault
from cumulet.central.agent.config import AgentConfig, HubConfig
from cumulet.central.hub.process import Hub
from cumulet.central.kube import Json, Query
from cumulet.central.protocol import APPLIED_WORKS, AVAILABLE, CLOCK_SYNCED, CLUSTERS, CONFIG_MAPS, LEASE, LEASES, WORKS
from cumulet.central.pulse import LinkPulse, Pulse, TaskPulse, write_pulse

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]
SHIM = """
import datetime, time
_time, _class = time.time, datetime.datetime
time.time = lambda: _time() - {seconds}
class datetime_(_class):
    @classmethod
    def now(cls, tz=None):
        return _class.now(tz) - datetime.timedelta(seconds={seconds})
datetime.datetime = datetime_
"""


def over(config: AgentConfig, wire: Wire) -> AgentConfig:
    """The same agent, with a wire between it and its hub."""
    return replace(config, hubs=(replace(config.hubs[0], server=wire.address),))


def make_work(cluster: str, name: str, size: int = 10) -> Json:
    """A work with one ConfigMap."""
    meta = {"name": name, "namespace": "default"}
    manifest = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": {"x": "y" * size}}
    return {"metadata": {"name": name, "namespace": cluster}, "spec": {"workload": {"manifests": [manifest]}}}


async def renewed(hub: Hub, cluster: str, seconds: float = 40) -> None:
    """Until the lease of a cluster is renewed once more."""
    before = (await hub.kube.get(LEASES, LEASE, cluster))["spec"]["renewTime"]

    async def look() -> bool:
        return bool((await hub.kube.get(LEASES, LEASE, cluster))["spec"]["renewTime"] != before)

    await until(f"{cluster} renews its lease", look, seconds)


async def hurry(hub: Hub, cluster: str, seconds: int = 1) -> None:
    """Shorter lease periods, so that a test need not wait for minutes."""
    await hub.kube.patch(CLUSTERS, cluster, {"spec": {"leaseDurationSeconds": seconds}})


def test_a_silent_cluster_is_unknown_after_five_periods_and_known_again(
    planes: dict[str, ApiServer], tmp_path: Path
) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            config = make_config("g-1", [(planes["hub"], await write_token(hub, "g-1", tmp_path))], tmp_path)
            async with open_agent(config, planes["edge"]):
                await let_in(hub, "g-1")
                await wait_for_condition(hub, "g-1", AVAILABLE, "True")
                await hurry(hub, "g-1", 2)
                await asyncio.sleep(3)
            begin = time.monotonic()
            condition = await wait_for_condition(hub, "g-1", AVAILABLE, "Unknown")
            assert condition["reason"] == "ManagedClusterLeaseUpdateStopped"
            assert 5 < time.monotonic() - begin < 25
            async with open_agent(config, planes["edge"]):
                await wait_for_condition(hub, "g-1", AVAILABLE, "True")

    asyncio.run(story())


def test_a_certificate_is_renewed_with_the_same_key(
    planes: dict[str, ApiServer], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            config = make_config("h-1", [(planes["hub"], await write_token(hub, "h-1", tmp_path))], tmp_path)
            async with open_agent(replace(config, certificate_life=600), planes["edge"]) as agent:
                await let_in(hub, "h-1")
                await wait_for_condition(hub, "h-1", AVAILABLE, "True")
                assert agent.identity is not None
                first = agent.identity.certificate
                key = (config.state / "device.key").read_bytes()
                assert 500 < agent.identity.until - agent.identity.since < 1000
                monkeypatch.setattr(vault, "RENEW_SHARE", 1.1)

                async def other() -> bool:
                    return agent.identity is not None and agent.identity.certificate != first

                await until("there is another certificate", other, 90)
                monkeypatch.setattr(vault, "RENEW_SHARE", 0.2)
                await hurry(hub, "h-1", 2)
                await renewed(hub, "h-1", 90)
                assert (config.state / "device.key").read_bytes() == key
            assert hub.requests.granted["AutoApproved"] >= 1

    asyncio.run(story())


def test_the_session_is_rebuilt_after_silence_and_after_the_hub_restarts(
    planes: dict[str, ApiServer], tmp_path: Path
) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub, open_wire(planes["hub"].ports[0]) as wire:
            config = make_config("i-1", [(planes["hub"], await write_token(hub, "i-1", tmp_path))], tmp_path)
            async with open_agent(over(config, wire), planes["edge"]) as agent:
                await let_in(hub, "i-1")
                await wait_for_condition(hub, "i-1", AVAILABLE, "True")
                await hurry(hub, "i-1", 1)
                await renewed(hub, "i-1")
                assert agent.session is not None
                agent.session.hub.patience = 3.0
                for link in (*agent.session.hub._idle, *agent.session.hub._watching):
                    link._patience = 3.0
                wire.frozen = True
                await asyncio.sleep(8)
                await hub.kube.apply(WORKS, make_work("i-1", "while-frozen"), owner="t")
                # The old connections stay dead; only new ones get through.
                wire.cut()
                wire.frozen = False
                await renewed(hub, "i-1")
                await wait_for_work(hub, "i-1", "while-frozen", "Applied")
                planes["hub"].stop("kube-apiserver")
                await asyncio.sleep(3)
                await asyncio.to_thread(planes["hub"].start, "kube-apiserver")
                await renewed(hub, "i-1", 90)
                await hub.kube.apply(WORKS, make_work("i-1", "after-restart"), owner="t")
                await wait_for_work(hub, "i-1", "after-restart", "Applied")

    asyncio.run(story())


def test_two_seconds_of_latency_are_only_slow(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub, open_wire(planes["hub"].ports[0], delay=1.0) as wire:
            config = make_config("j-1", [(planes["hub"], await write_token(hub, "j-1", tmp_path))], tmp_path)
            async with open_agent(over(config, wire), planes["edge"]):
                await let_in(hub, "j-1")
                await wait_for_condition(hub, "j-1", AVAILABLE, "True", 120)
                await hub.kube.apply(WORKS, make_work("j-1", "far"), owner="t")
                await wait_for_work(hub, "j-1", "far", "Applied")

    asyncio.run(story())


def test_a_cluster_goes_to_the_next_hub_and_keeps_what_it_has(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub, open_hub(planes["other"]) as other:
            tokens = [await write_token(hub, "k-1", tmp_path), await write_token(other, "k-1", tmp_path / "x")]
            async with open_wire(planes["hub"].ports[0]) as wire:
                first = make_config("k-1", [(planes["hub"], tokens[0])], tmp_path)
                second = make_config("k-1", [(planes["other"], tokens[1])], tmp_path)
                hubs = (*over(first, wire).hubs, *second.hubs)
                async with open_agent(replace(first, hubs=hubs, failover=6.0), planes["edge"]) as agent:
                    await let_in(hub, "k-1")
                    await wait_for_condition(hub, "k-1", AVAILABLE, "True")
                    await hurry(hub, "k-1", 1)
                    for each in (hub, other):
                        if each is hub:
                            await each.kube.apply(WORKS, make_work("k-1", "task"), owner="t")
                    await wait_for_work(hub, "k-1", "task", "Applied")
                    uid = (await agent.local.get(CONFIG_MAPS, "task", "default"))["metadata"]["uid"]
                    wire.frozen = True
                    wire.cut()
                    assert agent.session is not None
                    agent.session.hub.patience = 2.0
                    await let_in(other, "k-1")
                    await wait_for_condition(other, "k-1", AVAILABLE, "True", 90)
                    await other.kube.apply(WORKS, make_work("k-1", "task"), owner="t")
                    await wait_for_work(other, "k-1", "task", "Applied")
                    found = await agent.local.get(CONFIG_MAPS, "task", "default")
                    assert found["metadata"]["uid"] == uid, "the task was taken away in between"
                    assert len(await agent.local.collect(Query(APPLIED_WORKS))) >= 2
                    assert agent.vault.load_hub() == planes["other"].server

    asyncio.run(story())


# --- the agent as the process that a device runs


@contextmanager
def agent_process(
    folder: Path, document: str, prefix: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """`python3 -m cumulet.central.agent run` with this document."""
    (folder / "agent.yaml").write_text(document)
    words = [*prefix, sys.executable, "-m", "cumulet.central.agent", "run", str(folder / "agent.yaml")]
    with (folder / "agent.log").open("ab") as sink:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, env={"PATH": "/usr/bin:/bin", **(env or {})}
        )
    try:
        yield process
        assert process.poll() is None, (folder / "agent.log").read_text()
    finally:
        process.terminate()
        process.wait(20)


def write_document(folder: Path, cluster: str, hub: HubConfig, local: Path) -> str:
    """agent.yaml."""
    document = {
        "version": 1,
        "cluster": cluster,
        "hubs": [{"server": hub.server, "token": str(hub.token), "authority": str(hub.authority)}],
        "local": str(local),
        "state": str(folder / "state"),
        "run": str(folder / "run"),
    }
    return json.dumps(document)


def read_memory(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def publish_pulse(folder: Path) -> None:
    """As the recorder of a site does that has ten tasks; the links are those of its uplink."""
    folder.mkdir(exist_ok=True)
    tasks = tuple(TaskPulse(f"default/task-{n}", 1, 4, 4, 4, 2600, 900, {"yolo@4f53cda18c2b": 1}) for n in range(10))
    links = {"5g": LinkPulse(1, 0, 0, 61), "4g": LinkPulse(0, 1, 0, 40), "beidou": LinkPulse(0, 1, 0, 3)}
    now = int(time.time())
    pulse = Pulse(now, 1, (31, 60, 44), (9, 9), (now + 7200, 1800), 1, (3, 15), tasks, links)
    (folder / "pulse.json").write_text(write_pulse(pulse))


async def knows_tasks(hub: Hub, name: str, count: int) -> bool:
    """Whether a cluster has told of so many tasks."""
    pulse = hub.pulses.get(name)
    return pulse is not None and len(pulse.tasks) == count


def test_an_idle_agent_is_small_and_quiet(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> tuple[int, float]:
        async with open_hub(planes["hub"]) as hub, open_wire(planes["hub"].ports[0]) as wire:
            token = await write_token(hub, "l-1", tmp_path)
            found = over(make_config("l-1", [(planes["hub"], token)], tmp_path), wire)
            text = write_document(tmp_path, "l-1", found.hubs[0], planes["edge"].config)
            publish_pulse(tmp_path / "run")
            with agent_process(tmp_path, text) as process:
                await let_in(hub, "l-1")
                await wait_for_condition(hub, "l-1", AVAILABLE, "True")
                await hub.kube.apply(WORKS, make_work("l-1", "one", 100_000), owner="t")
                await wait_for_work(hub, "l-1", "one", "Applied")
                await until("the hub knows of its tasks", partial(knows_tasks, hub, "l-1", 10))
                await asyncio.sleep(5)
                before, begin = wire.passed, time.monotonic()
                await asyncio.sleep(130)  # two leases
                rate = (wire.passed - before) / (time.monotonic() - begin)
                return read_memory(process.pid), rate

    memory, rate = asyncio.run(story())
    logging.getLogger("test").warning("agent: %.1f MiB, %.0f bytes/s idle", memory / 2**20, rate)
    assert memory < 40 * 2**20, f"{memory / 2**20:.1f} MiB"
    assert rate < 1024, f"{rate:.0f} bytes/s"


def test_a_clock_that_is_ten_minutes_off_is_told_at_both_ends(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            token = await write_token(hub, "m-1", tmp_path)
            found = make_config("m-1", [(planes["hub"], token)], tmp_path)
            shim = tmp_path / "shim"
            shim.mkdir()
            (shim / "sitecustomize.py").write_text(SHIM.format(seconds=600))
            text = write_document(tmp_path, "m-1", found.hubs[0], planes["edge"].config)
            with agent_process(tmp_path, text, env={"PYTHONPATH": str(shim)}):
                await let_in(hub, "m-1")
                await wait_for_condition(hub, "m-1", AVAILABLE, "True")
                await hurry(hub, "m-1", 2)
                condition = await wait_for_condition(hub, "m-1", CLOCK_SYNCED, "False", 90)
                assert "s behind the hub's" in condition["message"]
                # It goes on all the same: that is counted on the hub's own clock.
                await asyncio.sleep(12)
                await wait_for_condition(hub, "m-1", AVAILABLE, "True", 1)

            assert "clock is 600 s behind the hub's" in (tmp_path / "agent.log").read_text().replace("599", "600")

    asyncio.run(story())


def test_a_link_of_1280_bytes_that_tells_nobody_is_no_obstacle(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story(space: str) -> None:
        hub_port, edge_port = planes["hub"].ports[0], planes["edge"].ports[0]
        async with (
            open_hub(planes["hub"]) as hub,
            open_wire(hub_port, HUB_ADDRESS) as far,
            open_wire(edge_port, SITE_ADDRESS) as near,
        ):
            token = await write_token(hub, "n-1", tmp_path)
            found = over(make_config("n-1", [(planes["hub"], token)], tmp_path), far)
            local = json.loads(planes["edge"].config.read_text())
            local["clusters"][0]["cluster"]["server"] = near.address
            (tmp_path / "local.conf").write_text(json.dumps(local))
            text = write_document(tmp_path, "n-1", found.hubs[0], tmp_path / "local.conf")
            with agent_process(tmp_path, text, ["ip", "netns", "exec", space]):
                await let_in(hub, "n-1")
                await wait_for_condition(hub, "n-1", AVAILABLE, "True")
                await hub.kube.apply(WORKS, make_work("n-1", "large", 300_000), owner="t")
                await wait_for_work(hub, "n-1", "large", "Applied")
            # The same link without our care for it: full packets get lost, and nobody says so.
            script = (
                "import asyncio, sys; from pathlib import Path; from cumulet.central import *\n"
                "async def go():\n"
                f"    kube = Kube(Access({far.address!r}, Path({str(planes['hub'].folder / 'ca.crt')!r}).read_text(),"
                " segment=int(sys.argv[1])), patience=6)\n"
                "    await kube.raw('GET', '/livez?verbose=' + 'x' * 20000, accept='*/*')\n"
                "asyncio.run(go())"
            )
            for segment, works in ((1220, True), (0, False)):
                words = ["ip", "netns", "exec", FAR, sys.executable, "-c", script, str(segment)]
                done = await asyncio.to_thread(subprocess.run, words, capture_output=True, text=True)
                assert (done.returncode == 0) is works, (segment, done.stderr[-500:])

    with narrow_network() as space:
        asyncio.run(story(space))
