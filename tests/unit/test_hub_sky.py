"""The hub's Beidou terminal: what it believes of a site, what it refuses, the whole way over simulated terminals."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import make_cluster
from cumulet.central.hub.sky import Sky, SkySettings, load_keys, load_settings, read_sky
from cumulet.central.kube import Json, Resource
from cumulet.central.page.view import Heard, make_row
from cumulet.central.protocol import AVAILABLE, CLUSTERS, JOINED, OVER_BEIDOU, SKY
from cumulet.core.errors import UsageError
from cumulet.uplink import Beacon, Choice, Message, SiteStatus, Terminal, encode_status, keep_terminal, write_status
from cumulet.uplink.model import Link
from cumulet_qemu.sim.rdss import RdssTerminal

NOW = 1_800_000_000
KEY, OTHER = b"k" * 32, b"o" * 32
STATUS = SiteStatus("pier-7", 4, NOW - 60, nodes=5, ready=4, cpu=71, alarms=("node-lost",), note="pump 3 stopped")


class Server:
    """A hub's API server with one cluster; the fleet hears of every change."""

    def __init__(self, available: str = "Unknown", accepted: bool = True) -> None:
        conditions = [{"type": JOINED, "status": "True"}, {"type": AVAILABLE, "status": available}]
        meta = {"name": "pier-7", "annotations": {}}
        self.body: Json = {
            "metadata": meta,
            "spec": {"hubAcceptsClient": accepted},
            "status": {"conditions": conditions},
        }
        self.writes = 0
        kube: Any = self
        self.fleet = Fleet(kube)
        for each in self.fleet.informers:
            each.synced.set()
        self._hear()

    def _hear(self) -> None:
        self.fleet.clusters.found["pier-7"] = make_cluster(self.body)

    async def patch(self, resource: Resource, name: str, change: Json, namespace: str = "", **more: Any) -> Json:
        self.body["metadata"]["annotations"] |= change["metadata"]["annotations"]
        self.writes += 1
        self._hear()
        return self.body

    async def apply(self, resource: Resource, body: Json, **more: Any) -> Json:
        (made,) = body["status"]["conditions"]
        kept = [each for each in self.body["status"]["conditions"] if each["type"] != made["type"]]
        self.set_conditions([*kept, made])
        return self.body

    def set_conditions(self, conditions: list[Json]) -> None:
        self.body["status"]["conditions"] = conditions
        self._hear()

    @property
    def state(self) -> str:
        cluster = self.fleet.get("pier-7")
        assert cluster is not None
        return cluster.state


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / "pier-7.key").write_bytes(KEY + b"\n")
    return folder


def make_sky(server: Server, keys: Path, device: str = "/dev/null", clock: float = NOW) -> Sky:
    return Sky(server.fleet, SkySettings(Path(device), keys), lambda: clock)


def receive(sky: Sky, *data: bytes) -> None:
    sky.terminal.received += [Message("242286", each) for each in data]
    asyncio.run(sky.step())


def test_a_site_that_is_silent_but_for_beidou_is_shown_as_that(keys: Path) -> None:
    server = Server()
    assert server.state == "silent"
    sky = make_sky(server, keys)
    receive(sky, encode_status(STATUS, "global", KEY))
    assert (server.state, sky.tally) == ("beidou", {"accepted": 1})
    cluster = server.fleet.get("pier-7")
    assert cluster is not None
    word, condition = read_sky(cluster), cluster.condition(OVER_BEIDOU)
    assert word is not None
    assert condition is not None
    assert (word["received"], word["card"], word["status"]["ready"]) == (NOW, "242286", 4)
    assert condition["message"] == "4 of 5 nodes are ready, node-lost, pump 3 stopped"
    row = make_row(cluster, Heard(4000.0))
    assert (row["state"], row["sky"]["nodes"], row["sky"]["time"]) == ("beidou", [4, 5], NOW)
    assert row["sky"]["alarms"] == ["node-lost"]
    # It is in touch again: what the sky said is not shown any more.
    conditions = [each for each in server.body["status"]["conditions"] if each["type"] != AVAILABLE]
    server.set_conditions([*conditions, {"type": AVAILABLE, "status": "True"}])
    asyncio.run(sky.sweep())
    assert (server.state, server.fleet.get("pier-7").status(OVER_BEIDOU)) == ("ready", "False")  # type: ignore[union-attr]
    receive(sky, encode_status(dataclasses.replace(STATUS, sequence=5), "global", KEY))
    assert server.fleet.get("pier-7").status(OVER_BEIDOU) == "False"  # type: ignore[union-attr]


def test_when_beidou_falls_silent_too_the_site_is_silent(keys: Path) -> None:
    server = Server()
    receive(make_sky(server, keys), encode_status(STATUS, "global", KEY))
    asyncio.run(make_sky(server, keys, clock=NOW + 890).sweep())
    assert server.state == "beidou"
    asyncio.run(make_sky(server, keys, clock=NOW + 910).sweep())
    assert server.state == "silent"


def test_what_is_not_new_is_refused_also_after_a_restart(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    server, first = Server(), encode_status(STATUS, "global", KEY)
    receive(make_sky(server, keys), first)
    again = make_sky(server, keys)
    receive(again, first, encode_status(dataclasses.replace(STATUS, time=NOW - 600, sequence=9), "global", KEY))
    assert (again.tally, server.writes) == ({"refused": 2}, 1)
    assert "pier-7: a status that is not newer than the one that is known" in caplog.text
    receive(again, encode_status(dataclasses.replace(STATUS, sequence=5), "global", KEY))
    assert (again.tally["accepted"], server.writes) == (1, 2)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (encode_status(STATUS, "global"), "its HMAC is wrong or missing"),
        (encode_status(STATUS, "global", OTHER), "its HMAC is wrong or missing"),
        (encode_status(dataclasses.replace(STATUS, site="quay-1"), "global", OTHER), "a status of an unknown site"),
        (encode_status(dataclasses.replace(STATUS, time=NOW + 7200), "global", KEY), "120 minutes ahead of this clock"),
        (encode_status(STATUS, "global", KEY)[:20], "pier-7: a status that is not from there"),
        (b"\x18", "a status that ends too early"),
        (b"\x90", "a status of version 9; known is 1"),
    ],
)
def test_what_is_not_believed_is_named(keys: Path, caplog: pytest.LogCaptureFixture, data: bytes, message: str) -> None:
    server = Server()
    sky = make_sky(server, keys)
    receive(sky, data)
    assert (sky.tally, server.writes, server.state) == ({"refused": 1}, 0, "silent")
    assert message in caplog.text
    assert "from card 242286" in caplog.text


def test_a_cluster_that_is_not_accepted_says_nothing(keys: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = Server(accepted=False)
    receive(make_sky(server, keys), encode_status(STATUS, "global", KEY))
    assert (server.writes, "pier-7: is not a cluster of this hub" in caplog.text) == (0, True)


def test_an_annotation_that_somebody_has_spoilt_is_none() -> None:
    for text in ("", "{", "[]", '{"received": "x"}', '{"received": 1, "card": "1"}'):
        meta = {"name": "a", "annotations": {SKY: text}}
        assert read_sky(make_cluster({"metadata": meta, "spec": {}})) is None


@pytest.mark.parametrize(
    "status",
    [{}, {"time": "x", "sequence": 1}, {"time": 1, "sequence": []}, {"alarms": 3, "position": [float("nan"), 1]}],
)
def test_what_an_agent_writes_into_its_annotation_harms_nobody(keys: Path, status: Json) -> None:
    server = Server()
    note = json.dumps({"received": NOW, "card": "1", "status": {"nodes": "many", "position": "here", **status}})
    asyncio.run(server.patch(CLUSTERS, "pier-7", {"metadata": {"annotations": {SKY: note}}}))
    server.set_conditions([*server.body["status"]["conditions"], {"type": OVER_BEIDOU, "status": "True"}])
    sky = make_row(server.fleet.get("pier-7"), Heard())["sky"]  # type: ignore[arg-type]
    assert (sky["nodes"], sky["alarms"], sky["position"]) == ([0, 0], [], None)
    receive(make_sky(server, keys), encode_status(STATUS, "global", KEY))
    assert server.writes == 2


def test_keys_are_files_and_none_is_empty(keys: Path) -> None:
    assert load_keys(keys) == {"pier-7": KEY}
    (keys / "quay-1.key").write_text("\n")
    with pytest.raises(UsageError, match=r"quay-1\.key: is empty"):
        load_keys(keys)


def test_the_document_names_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "sky.yaml"
    path.write_text("version: 1\ndevice: /dev/ttyS1\nkeys: secret\ndialect: '3'\n")
    assert load_settings(path) == SkySettings(Path("/dev/ttyS1"), tmp_path / "secret", "3")
    path.write_text("version: 1\ndevise: /dev/ttyS1\n")
    with pytest.raises(UsageError) as caught:
        load_settings(path)
    assert "unknown key 'devise'" in caught.value.report()


@pytest.fixture
def radios() -> Iterator[tuple[RdssTerminal, RdssTerminal]]:
    """The terminal of the site and that of the hub."""
    with RdssTerminal(card=242286) as site, RdssTerminal(card=100) as hub:
        yield site, hub


def test_a_status_goes_from_the_file_of_a_site_over_two_terminals_to_the_state_at_the_hub(
    radios: tuple[RdssTerminal, RdssTerminal], keys: Path, tmp_path: Path
) -> None:
    site, over = radios
    link = Link(name="sky", kind="beidou", device=site.device, address="100", carries=("status",))
    write_status(dataclasses.replace(STATUS, time=int(time.time())), tmp_path / "status.json")
    beacon = Beacon(link, tmp_path / "status.json", KEY)
    server, stop, terminal = Server(), threading.Event(), Terminal("2.1", link.address)
    thread = threading.Thread(target=keep_terminal, args=(terminal, Path(site.device), stop))
    thread.start()

    async def story() -> None:
        sky = Sky(server.fleet, SkySettings(Path(over.device), keys))
        listening = asyncio.create_task(sky.run())
        end = time.monotonic() + 20
        carried = 0
        while server.state != "beidou":
            assert time.monotonic() < end, (terminal.tally, sky.tally, beacon.error)
            if terminal.up and not carried:
                beacon.feed(
                    terminal, Choice({"status": "sky"}), [{"kind": "beidou", "used": True, "up": True, "signal": 3}]
                )
            for _, address, data in site.sent[carried:]:
                assert address == "100"
                over.say(f"BDTXR,1,{site.card:07d},2,,A4{data.hex()}", damage=True)  # what was damaged does no harm
                over.receive(site.card, data)
            carried = len(site.sent)
            await asyncio.sleep(0.05)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)
        assert sky.terminal.tally.damaged == 1

    try:
        asyncio.run(story())
    finally:
        stop.set()
        thread.join()
    word = read_sky(server.fleet.get("pier-7"))  # type: ignore[arg-type]
    assert word is not None
    assert (word["card"], word["status"]["note"], word["status"]["links"][3]) == ("242286", "pump 3 stopped", "used")
    assert abs(word["received"] - time.time()) < 30
