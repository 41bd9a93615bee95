"""The trace of a deployment across tiers, at a stand-in collector; and that without one nothing is loaded."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import pytest
from collectors import Collector, open_collector

from cumulet.central.agent.config import AgentConfig, load_config
from cumulet.central.agent.works import Works, make_item
from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.records import make_cluster, make_work
from cumulet.central.hub.replicas import Replicas
from cumulet.central.hub.tracks import Tracks
from cumulet.central.informer import make_key
from cumulet.central.kube import Json, RefusedError, Resource
from cumulet.central.protocol import PLACEMENT_LABEL, REPLICA_SETS, TRACE, WORK_FINALIZER, WORKS
from cumulet.central.traces import NoTraces, Traces, make_endpoint, open_traces, read_trace, with_trace
from cumulet.core import proc
from cumulet.core.errors import UsageError

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
MODULE = "opentelemetry"


def merge(old: Any, new: Any) -> Any:
    """What a server makes of an apply, as far as it matters here."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {**old, **{key: merge(old.get(key), value) for key, value in new.items()}}
    return new


class Server:
    """The objects of an API server."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], Json] = {}
        self.kinds = {"v1": [("configmaps", "ConfigMap", True), ("namespaces", "Namespace", False)]}
        self.kinds["cluster.open-cluster-management.io/v1beta1"] = [("placements", "Placement", True)]
        self.kinds["work.open-cluster-management.io/v1alpha1"] = [(REPLICA_SETS.plural, REPLICA_SETS.kind, True)]

    async def call(self, method: str, path: str, **more: Any) -> Json:
        version = path.removeprefix("/apis/").removeprefix("/api/")
        names = ("name", "kind", "namespaced")
        return {"resources": [dict(zip(names, each, strict=True)) for each in self.kinds[version]]}

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        return self.objects.get((resource.plural, f"{namespace}/{name}" if namespace else name))

    async def get(self, resource: Resource, name: str, namespace: str = "") -> Json:
        found = await self.find(resource, name, namespace)
        if found is None:
            raise RefusedError(f"{name}: not there", 404, "NotFound")
        return found

    async def apply(self, resource: Resource, body: Json, **more: Any) -> Json:
        key = (resource.plural, make_key(body))
        old = self.objects.get(key, {"metadata": {"uid": make_key(body), "resourceVersion": "1", "generation": 1}})
        self.objects[key] = merge(old, {"apiVersion": resource.api_version, "kind": resource.kind, **body})
        return self.objects[key]

    async def patch(self, resource: Resource, name: str, change: Json, namespace: str = "", **more: Any) -> Json:
        found = await self.get(resource, name, namespace)
        found = merge(found, change)
        self.objects[resource.plural, make_key(found)] = found
        return found


class Hub:
    """The part of a hub that makes works, over a server, with one cluster below it."""

    def __init__(self, traces: Traces, below: str, *, is_hub: bool = False) -> None:
        self.server, self.below = Server(), below
        kube: Any = self.server
        self.fleet = Fleet(kube)
        for each in self.fleet.informers:
            each.synced.set()
        claims = [{"name": "hub.cumulet.io", "value": "true"}] if is_hub else []
        cluster = {"metadata": {"name": below}, "spec": {"hubAcceptsClient": True}, "status": {"clusterClaims": claims}}
        self.fleet.clusters.found[below] = make_cluster(cluster)
        self.replicas, self.tracks = Replicas(self.fleet, traces), Tracks(self.fleet, traces)

    async def spread(self, placement: Json, rollout: Json) -> Json:
        """Take in a roll-out for the cluster below; gives back the work that is made of it."""
        key = make_key(rollout)
        self.fleet.placements.found[make_key(placement)] = placement
        decision = {
            "metadata": {**placement["metadata"], "labels": {PLACEMENT_LABEL: placement["metadata"]["name"]}},
            "status": {"decisions": [{"clusterName": self.below}]},
        }
        self.fleet.decisions.found["d"] = decision
        await self.server.apply(REPLICA_SETS, rollout)
        self.fleet.sets.found[key] = await self.server.get(REPLICA_SETS, *reversed(key.split("/")))
        await self.replicas.handle(key)
        return self.hear()

    def hear(self) -> Json:
        """Take in what the server has of the work."""
        ((_, found),) = [each for each in self.server.objects.items() if each[0][0] == WORKS.plural]
        work = make_work(found)
        self.fleet.works.found[make_key(found)] = work
        for tell in self.fleet.on_work:
            tell(work)
        return found


class Agent:
    """The part of an agent that applies works."""

    def __init__(self, traces: Traces, hub: Hub, local: Server) -> None:
        over: Any = hub.server
        here: Any = local
        self.hub, self.local = hub, local
        self.works = Works(over, here, AgentConfig(hub.below, ()), "hash", traces)

    async def work(self, name: str) -> None:
        """Look at the work as it is at the hub; the hub hears of it."""
        await self.hub.server.patch(WORKS, name, {"metadata": {"finalizers": [WORK_FINALIZER]}}, self.hub.below)
        found = await self.hub.server.get(WORKS, name, self.hub.below)
        self.works.items.found[name] = make_item(found)
        await self.works.handle(name)
        self.hub.hear()


def make_rollout() -> tuple[Json, Json]:
    meta = {"name": "detect", "namespace": "tasks", "labels": {"cumulet.io/descend": "true"}}
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "c", "namespace": "n"},
        "data": {"a": "1"},
    }
    spec = {"placementRefs": [{"name": "detect"}], "manifestWorkTemplate": {"workload": {"manifests": [settings]}}}
    return {"metadata": dict(meta), "spec": {}}, {"metadata": dict(meta), "spec": spec}


async def deploy(top: Hub, station: Agent, middle: Hub, edge: Agent, rollout: tuple[Json, Json]) -> None:
    """From the top through a station to the edge, and back."""
    await top.spread(*rollout)
    await station.work("detect")
    handed = await station.local.get(REPLICA_SETS, "detect", "tasks")
    await middle.spread(rollout[0], {"metadata": handed["metadata"], "spec": handed["spec"]})
    await edge.work("detect")


def test_a_deployment_across_tiers_is_one_trace_from_the_page_to_the_report() -> None:
    async def story(collector: Collector) -> Json:
        names = (("cumulet-hub", "top"), ("cumulet-agent", "mast"), ("cumulet-hub", "mast"), ("cumulet-agent", "pier"))
        traces = [open_traces(collector.url, *each) for each in names]
        top, middle = Hub(traces[0], "mast", is_hub=True), Hub(traces[2], "pier")
        station, edge = Agent(traces[1], top, middle.server), Agent(traces[3], middle, Server())
        placement, rollout = make_rollout()
        with traces[0].span("deploy", rollout="detect", user="ops") as span:
            rollout = with_trace(rollout, span.context)
        await deploy(top, station, middle, edge, (placement, rollout))
        await edge.work("detect")  # looked at again, as it is every few minutes: nothing new is told
        for each in traces:
            each.close()
        return await edge.local.get(Resource("", "v1", "configmaps", "ConfigMap"), "c", "n")

    with open_collector() as collector:
        applied = asyncio.run(story(collector))
    assert applied["data"] == {"a": "1"}
    assert len({each.trace for each in collector.spans}) == 1
    (root,) = collector.named("deploy")
    assert (root.parent, root.values["user"], root.cluster) == ("", "ops", "top")
    spread_top, spread_middle = (next(each for each in collector.named("spread") if each.cluster == name)
                                 for name in ("top", "mast"))  # fmt: skip
    assert spread_top.parent == root.span
    upper = next(each for each in collector.named("create work") if each.cluster == "top")
    lower = next(each for each in collector.named("create work") if each.cluster == "mast")
    assert collector.children(upper) == ["applied", "apply", "available"]
    station = next(each for each in collector.named("apply") if each.cluster == "mast")
    # The hub of the station goes on where its agent has handed the work over.
    assert (station.parent, spread_middle.parent, lower.parent) == (upper.span, station.span, spread_middle.span)
    assert collector.children(lower) == ["applied", "apply", "available"]
    edge = next(each for each in collector.named("apply") if each.cluster == "pier")
    assert collector.children(edge) == ["report"]
    (report,) = [each for each in collector.named("report") if each.cluster == "pier"]
    assert (report.values["applied"], report.values["available"], report.values["work"]) == (True, True, "detect")
    assert all(each.seconds >= 0 and not each.failed for each in collector.spans)
    assert {each.service for each in collector.spans} == {"cumulet-hub", "cumulet-agent"}


def test_tiers_without_a_collector_hand_the_trace_on() -> None:
    async def story() -> list[Json]:
        top, middle = Hub(NoTraces(), "mast", is_hub=True), Hub(NoTraces(), "pier")
        station, edge = Agent(NoTraces(), top, middle.server), Agent(NoTraces(), middle, Server())
        placement, rollout = make_rollout()
        await deploy(top, station, middle, edge, (placement, with_trace(rollout, PARENT)))
        return [await top.server.get(WORKS, "detect", "mast"), await middle.server.get(WORKS, "detect", "pier")]

    assert [read_trace(each) for each in asyncio.run(story())] == [PARENT, PARENT]


def test_what_cannot_be_applied_is_a_failed_span_with_its_reason() -> None:
    async def story(collector: Collector) -> None:
        traces = open_traces(collector.url, "cumulet-agent", "pier")
        hub = Hub(traces, "pier")
        placement, rollout = make_rollout()
        rollout["spec"]["manifestWorkTemplate"]["workload"]["manifests"][0]["kind"] = "Pod"
        await hub.spread(placement, rollout)
        await Agent(traces, hub, Server()).work("detect")
        traces.close()

    with open_collector() as collector:
        asyncio.run(story(collector))
    (apply,) = collector.named("apply")
    assert "Pod" in apply.failed
    (report,) = collector.named("report")
    assert report.values["applied"] is False
    assert collector.named("applied") == []


def test_a_collector_that_is_not_there_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cumulet.central.traces.SEND_SECONDS", 0.3)

    async def story() -> Json:
        traces = open_traces("http://127.0.0.1:9", "cumulet-hub", "top")
        hub = Hub(traces, "pier")
        made = await hub.spread(*make_rollout())
        traces.close()
        return made

    assert read_trace(asyncio.run(story()))


def test_a_context_that_is_none_is_not_handed_on() -> None:
    for text in ("", "x", PARENT.replace("b7ad6b7169203331", "0" * 16), f"{PARENT}\n", PARENT.upper()):
        assert read_trace({"metadata": {"annotations": {TRACE: text}}}) == ""
        with NoTraces().span("x", text) as span:
            assert span.context == ""
    assert with_trace({"metadata": {"name": "a"}}, "") == {"metadata": {"name": "a"}}


def test_an_address_that_is_none_is_refused() -> None:
    assert make_endpoint("http://c:4318/") == "http://c:4318/v1/traces"
    assert make_endpoint("https://c/otlp/v1/traces") == "https://c/otlp/v1/traces"
    with pytest.raises(UsageError, match="traces: 'c:4318' is not the address of a collector"):
        make_endpoint("c:4318")


def test_without_the_packages_it_is_said_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(UsageError, match=r"traces: http://c:4318: .* is not installed here"):
        open_traces("http://c:4318", "cumulet-hub", "top")


def test_nothing_is_loaded_where_no_collector_is_named() -> None:
    code = (
        "import sys; import cumulet.central.agent.process, cumulet.central.hub.service, cumulet.central.page;"
        "from cumulet.central.traces import open_traces; open_traces('', 'cumulet-hub', 'top');"
        f"print([name for name in sys.modules if name.startswith('{MODULE}') or name == 'requests'])"
    )
    assert proc.run([sys.executable, "-c", code]).out.strip() == "[]"


def test_the_document_of_an_agent_names_the_collector(tmp_path: Path) -> None:
    path = tmp_path / "agent.yaml"
    path.write_text(
        "version: 1\ncluster: pier\nhubs: [{server: 'https://h:6443'}]\ntraces: http://c:4318\nrun: /run/x\n"
    )
    config = load_config(path)
    assert (config.traces, config.run) == ("http://c:4318", Path("/run/x"))
