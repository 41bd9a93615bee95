"""Clusters at a real API server: how they join, work, come back and leave, with the real hub and the real agent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from api_servers import ApiServer
from hubs import (
    let_in,
    make_config,
    open_agent,
    open_hub,
    until,
    wait_for_condition,
    wait_for_work,
    write_token,
)

from cumulet.central.kube import Query
from cumulet.central.protocol import (
    APPLIED_WORKS,
    AVAILABLE,
    CLUSTERS,
    CONFIG_MAPS,
    LEASE,
    LEASES,
    NAMESPACES,
    WORKS,
)

pytestmark = [pytest.mark.lab, pytest.mark.timeout(300)]


def make_map(name: str, **data: str) -> dict[str, object]:
    """A ConfigMap as a manifest."""
    meta = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}


def make_work(cluster: str, name: str, *manifests: object, **spec: object) -> dict[str, object]:
    """A ManifestWork."""
    meta = {"name": name, "namespace": cluster}
    return {"metadata": meta, "spec": {"workload": {"manifests": list(manifests)}, **spec}}


def test_a_cluster_joins_works_and_leaves(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            token = await write_token(hub, "pier-7", tmp_path)
            config = make_config("pier-7", [(planes["hub"], token)], tmp_path, claims={"gpu": "adreno-630"})
            async with open_agent(config, planes["edge"]) as agent:
                await let_in(hub, "pier-7")
                await wait_for_condition(hub, "pier-7", AVAILABLE, "True")
                found = await hub.kube.get(CLUSTERS, "pier-7")
                claims = {each["name"]: each["value"] for each in found["status"]["clusterClaims"]}
                assert claims["gpu"] == "adreno-630" and claims["tier"] == "edge"
                assert found["status"]["version"]["kubernetes"].startswith("v1.")
                assert (await hub.kube.get(LEASES, LEASE, "pier-7"))["spec"]["renewTime"]

                edge = agent.local
                await hub.kube.apply(
                    WORKS, make_work("pier-7", "settings", make_map("a", x="1"), make_map("b", x="2")), owner="t"
                )
                await wait_for_work(hub, "pier-7", "settings", "Applied")
                assert (await edge.get(CONFIG_MAPS, "a", "default"))["data"] == {"x": "1"}
                await hub.kube.apply(WORKS, make_work("pier-7", "settings", make_map("a", x="3")), owner="t")

                async def changed() -> bool:
                    now = await edge.find(CONFIG_MAPS, "a", "default")
                    gone = await edge.find(CONFIG_MAPS, "b", "default") is None
                    return gone and now is not None and now["data"] == {"x": "3"}

                await until("b is gone, a is changed", changed)
                await hub.kube.delete(WORKS, "settings", "pier-7")

                async def gone() -> bool:
                    left = (
                        await hub.kube.find(WORKS, "settings", "pier-7"),
                        await edge.find(CONFIG_MAPS, "a", "default"),
                    )
                    return left == (None, None) and not await edge.collect(Query(APPLIED_WORKS))

                await until("the work and all of it is gone", gone)
                await hub.kube.delete(CLUSTERS, "pier-7")

                async def left() -> bool:
                    return await hub.kube.find(CLUSTERS, "pier-7") is None and not await hub.kube.find(
                        NAMESPACES, "pier-7"
                    )

                await until("the cluster is gone", left)

    asyncio.run(story())


def make_options(name: str, strategy: object, *rules: object) -> dict[str, object]:
    """How the ConfigMap of this name is to be handled."""
    identifier = {"group": "", "resource": "configmaps", "namespace": "default", "name": name}
    return {"resourceIdentifier": identifier, "updateStrategy": strategy, "feedbackRules": list(rules)}


def test_conflicts_are_reported_and_what_is_others_is_left_alone(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    async def story() -> None:
        async with open_hub(planes["hub"]) as hub:
            config = make_config("pier-8", [(planes["hub"], await write_token(hub, "pier-8", tmp_path))], tmp_path)
            async with open_agent(config, planes["edge"]) as agent:
                edge = agent.local
                for name in ("shared", "first", "seen"):
                    await edge.apply(CONFIG_MAPS, make_map(name, x="local"), owner="people")  # type: ignore[arg-type]
                await let_in(hub, "pier-8")
                await wait_for_condition(hub, "pier-8", AVAILABLE, "True")
                rule = {"type": "JSONPaths", "jsonPaths": [{"name": "x", "path": ".data.x"}]}
                work = make_work(
                    "pier-8",
                    "mixed",
                    make_map("shared", x="hub"),
                    make_map("first", x="hub"),
                    make_map("seen", x="hub"),
                    make_map("stays", x="hub"),
                    manifestConfigs=[
                        make_options("shared", {"type": "ServerSideApply"}),
                        make_options("first", {"type": "CreateOnly"}),
                        make_options("seen", {"type": "ReadOnly"}, rule),
                    ],
                    deleteOption={
                        "propagationPolicy": "SelectivelyOrphan",
                        "selectivelyOrphans": {
                            "orphaningRules": [
                                {"group": "", "resource": "configmaps", "namespace": "default", "name": "stays"}
                            ]
                        },
                    },
                )
                await hub.kube.apply(WORKS, work, owner="t")
                found = await wait_for_work(hub, "pier-8", "mixed", "Applied", "False")
                shared, first, seen, stays = found["status"]["resourceStatus"]["manifests"]
                assert 'conflict with "people"' in shared["conditions"][0]["message"]
                assert [each["conditions"][0]["status"] for each in (first, seen, stays)] == ["True"] * 3
                assert seen["statusFeedback"]["values"][0]["fieldValue"]["string"] == "local"
                for name in ("shared", "first", "seen"):
                    assert (await edge.get(CONFIG_MAPS, name, "default"))["data"]["x"] == "local"
                await hub.kube.delete(WORKS, "mixed", "pier-8")

                async def gone() -> bool:
                    return await hub.kube.find(WORKS, "mixed", "pier-8") is None

                await until("the work is gone", gone)
                assert (await edge.get(CONFIG_MAPS, "stays", "default"))["data"]["x"] == "hub"
                for name in ("first", "seen"):
                    assert (await edge.get(CONFIG_MAPS, name, "default"))["data"]["x"] == "local"

    asyncio.run(story())
