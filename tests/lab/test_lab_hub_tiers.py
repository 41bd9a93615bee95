"""Three tiers of real API servers: what is below adds up above, work goes down to the leaves, a cut does no harm."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from api_servers import ApiServer
from collectors import Collector, open_collector
from hubs import let_in, make_config, open_agent, open_hub, until, wait_for_condition, write_token
from wires import Wire, open_wire

from cumulet.central.agent.process import Agent
from cumulet.central.hub.process import Hub
from cumulet.central.kube import Json, Kube
from cumulet.central.protocol import (
    AVAILABLE,
    CLUSTERS,
    CONFIG_MAPS,
    DESCEND,
    NAMESPACES,
    NODES,
    PLACEMENTS,
    REPLICA_SETS,
    WORKS,
)
from cumulet.central.pulse import Pulse, TaskPulse, write_pulse
from cumulet.central.traces import open_traces

pytestmark = [pytest.mark.lab, pytest.mark.timeout(400)]


def make_placement(name: str, **claims: str) -> Json:
    """A placement by claims, for leaves at any depth."""
    wanted = [{"key": key, "operator": "In", "values": [value]} for key, value in claims.items()]
    meta = {"name": name, "namespace": "tasks", "labels": {DESCEND: "true"}}
    predicate = {"requiredClusterSelector": {"claimSelector": {"matchExpressions": wanted}}}
    return {"metadata": meta, "spec": {"predicates": [predicate]}}


def make_set(name: str, text: str) -> Json:
    """A work for all clusters of the placement of the same name."""
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": "default"},
        "data": {"x": text},
    }
    spec = {
        "manifestWorkTemplate": {"workload": {"manifests": [manifest]}},
        "placementRefs": [{"name": name}],
    }
    return {"metadata": {"name": name, "namespace": "tasks", "labels": {DESCEND: "true"}}, "spec": spec}


async def add_node(kube: Kube, name: str, cpu: str) -> None:
    """A node that only exists on paper; what counts here are its amounts."""
    await kube.apply(NODES, {"metadata": {"name": name}}, owner="t")
    amounts = {"cpu": cpu, "memory": "2Gi", "pods": "110"}
    await kube.apply(
        NODES,
        {"metadata": {"name": name}, "status": {"capacity": amounts, "allocatable": amounts}},
        owner="t",
        sub="status",
    )


async def wait_for_text(kube: Kube, name: str, text: str, seconds: float = 60) -> None:
    """Until a ConfigMap has this text."""

    async def look() -> bool:
        found = await kube.find(CONFIG_MAPS, name, "default")
        return found is not None and found["data"]["x"] == text

    await until(f"{name} says {text}", look, seconds)


async def wait_for_summary(hub: Hub, name: str, seconds: float = 60, **wanted: int) -> None:
    """Until the summary of a replica set has these numbers."""

    async def look() -> bool:
        found = await hub.kube.get(REPLICA_SETS, name, "tasks")
        summary = (found.get("status") or {}).get("summary") or {}
        return all(summary.get(key) == value for key, value in wanted.items())

    await until(f"summary of {name} is {wanted}", look, seconds)


@dataclass
class Tiers:
    """Three tiers: two hubs, the agents of station and edge, and the wire between top and station."""

    top: Hub
    station: Hub
    agent: Agent
    edge: Agent
    wire: Wire


@asynccontextmanager
async def open_tiers(planes: dict[str, ApiServer], folder: Path, collector: str) -> AsyncIterator[Tiers]:
    """All three, registered and in touch, with their traces at one collector."""
    top_server, station_server = planes["hub"], planes["other"]
    async with (
        open_hub(top_server, traces=open_traces(collector, "cumulet-hub", "top")) as top,
        open_hub(station_server, traces=open_traces(collector, "cumulet-hub", "station-1")) as station,
        open_wire(top_server.ports[0]) as wire,
    ):
        up = make_config("station-1", [(top_server, await write_token(top, "station-1", folder))], folder)
        low = make_config("edge-1", [(station_server, await write_token(station, "edge-1", folder))], folder)
        up, low = replace(up, traces=collector), replace(low, traces=collector)
        up = replace(up, hubs=(replace(up.hubs[0], server=wire.address),), tier="station")
        low = replace(low, claims={"gpu": "adreno-630"}, run=folder / "run")
        async with open_agent(low, planes["edge"]) as edge, open_agent(up, station_server) as agent:
            await add_node(edge.local, "p1", "8")
            for hub, name in ((station, "edge-1"), (top, "station-1")):
                await let_in(hub, name)
                await wait_for_condition(hub, name, AVAILABLE, "True")
            yield Tiers(top, station, agent, edge, wire)
            for hub in (top, station):
                await asyncio.to_thread(hub.traces.close)


async def wait_for_sums(top: Hub) -> None:
    """Until the top knows what is below the station."""

    async def look() -> bool:
        found = (await top.kube.get(CLUSTERS, "station-1"))["status"]
        claims = {each["name"]: each["value"] for each in found.get("clusterClaims") or ()}
        counted = claims.get("values.cumulet.io/gpu") == "adreno-630=1"
        return counted and claims.get("clusters.cumulet.io") == "1" and found["capacity"].get("cpu") == "8"

    await until("the station says what is below it", look, 120)


def publish_pulse(folder: Path) -> None:
    """What the recorder and the uplink of the edge publish."""
    folder.mkdir(parents=True)
    task = TaskPulse("default/detect", 1, 2, 1, 1, 1500, 400, {"yolo@4f53cda18c2b": 1})
    (folder / "pulse.json").write_text(write_pulse(Pulse(int(time.time()), nodes=(1, 1), tasks=(task,))))
    links = [{"kind": "5g", "up": True, "used": True, "signal": 61}]
    (folder / "uplink.json").write_text(json.dumps({"written": time.time(), "links": links}))


async def wait_for_pulse(top: Hub) -> None:
    """Until the top knows what the tasks of the edge use, and by which link it is there."""

    async def look() -> bool:
        found = top.pulses.get("station-1")
        return found is not None and bool(found.tasks) and found.links["5g"].used == 1

    await until("the station says what the tasks below it use", look, 90)
    found = top.pulses.get("station-1")
    assert found is not None
    assert (found.sites, found.tasks[0].wanted, found.tasks[0].ready) == (1, 2, 1)
    assert found.tasks[0].models == {"yolo@4f53cda18c2b": 1}


def check_traces(collector: Collector) -> None:
    """Every work went down as one trace: hub, agent, hub, agent, and its report back."""
    applied = [each for each in collector.named("apply") if each.values["work"] == "task"]
    for edge in (each for each in applied if each.cluster == "edge-1"):
        way, at = [], edge
        while at.parent:
            (at,) = (each for each in collector.spans if each.span == at.parent and each.trace == edge.trace)
            way.append((at.cluster, at.name))
        assert way == [
            ("station-1", "create work"),
            ("station-1", "spread"),
            ("station-1", "apply"),
            ("top", "create work"),
            ("top", "spread"),
        ]
        below = {(each.cluster, each.name) for each in collector.spans if each.trace == edge.trace}
        assert {("edge-1", "report"), ("station-1", "applied"), ("top", "applied")} <= below
    assert len({each.trace for each in applied}) == 2


def test_work_from_the_top_reaches_the_right_leaf_and_survives_a_cut(
    planes: dict[str, ApiServer], tmp_path: Path
) -> None:
    publish_pulse(tmp_path / "run")

    async def story(collector: str) -> None:
        async with open_tiers(planes, tmp_path, collector) as tiers:
            top, edge, wire = tiers.top, tiers.edge.local, tiers.wire
            await wait_for_sums(top)
            await wait_for_pulse(top)
            await top.kube.apply(NAMESPACES, {"metadata": {"name": "tasks"}}, owner="t")
            for name, gpu in (("task", "adreno-630"), ("elsewhere", "mali-g610")):
                await top.kube.apply(PLACEMENTS, make_placement(name, gpu=gpu), owner="t")
                await top.kube.apply(REPLICA_SETS, make_set(name, "first"), owner="t")
            await wait_for_text(edge, "task", "first")
            await wait_for_summary(top, "task", total=1, applied=1, available=1)
            assert await edge.find(CONFIG_MAPS, "elsewhere", "default") is None
            assert await top.kube.find(WORKS, "elsewhere", "station-1") is None

            # The station is cut off: what is below goes on, and its own people can still give it work.
            wire.frozen = True
            wire.cut()
            assert tiers.agent.session is not None
            tiers.agent.session.hub.patience = 2.0
            await top.kube.apply(REPLICA_SETS, make_set("task", "second"), owner="t")
            spec = make_set("local", "own")["spec"]["manifestWorkTemplate"]
            own = {"metadata": {"name": "local", "namespace": "edge-1"}, "spec": spec}
            await tiers.station.kube.apply(WORKS, own, owner="t")
            await wait_for_text(edge, "local", "own")
            await asyncio.sleep(5)
            assert (await edge.get(CONFIG_MAPS, "task", "default"))["data"]["x"] == "first"
            wire.frozen = False
            wire.cut()
            await wait_for_text(edge, "task", "second", 90)
            await wait_for_summary(top, "task", total=1, applied=1, available=1)

            await top.kube.delete(REPLICA_SETS, "task", "tasks")

            async def gone() -> bool:
                return await edge.find(CONFIG_MAPS, "task", "default") is None

            await until("the work is taken away everywhere", gone, 60)
            assert (await edge.get(CONFIG_MAPS, "local", "default"))["data"]["x"] == "own"

    with open_collector() as collector:
        asyncio.run(story(collector.url))
    check_traces(collector)
