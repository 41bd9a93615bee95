"""A thousand edges under one hub: real agents on made-up clusters, a real API server, the hub as its own process."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from api_servers import ApiServer
from fleets import SmallAgent, open_fleet
from hubs import until

from cumulet.central.access import load_access
from cumulet.central.hub.approval import list_clusters
from cumulet.central.hub.install import install
from cumulet.central.hub.tokens import make_token, publish_token
from cumulet.central.kube import Kube
from cumulet.central.protocol import NAMESPACES, PLACEMENTS, REPLICA_SETS
from cumulet.core.deadline import Deadline

pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]
EDGES = int(os.environ.get("CUMULET_TEST_EDGES", "1000"))
log = logging.getLogger("test")


@contextmanager
def hub_process(server: ApiServer, folder: Path, allowed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`python3 -m cumulet.central.hub run`."""
    words = [sys.executable, "-m", "cumulet.central.hub", "run", "--kubeconfig", str(server.config)]
    with (folder / "hub.log").open("ab") as sink:
        process = subprocess.Popen(
            [*words, "--port", "0", "--allowed", str(allowed)], stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        yield process
        assert process.poll() is None, (folder / "hub.log").read_text()[-2000:]
    finally:
        process.terminate()
        process.wait(20)


async def count_ready(kube: Kube) -> int:
    """How many clusters are ready."""
    return sum(1 for each in await list_clusters(kube) if each.state == "ready")


async def wait_until_ready(kube: Kube, number: int, seconds: float) -> float:
    """Until so many clusters are ready; how long it took."""
    begin = time.monotonic()

    async def look() -> bool:
        await asyncio.sleep(2)
        return await count_ready(kube) >= number

    await until(f"{number} clusters are ready", look, seconds)
    return time.monotonic() - begin


async def wait_for_applied(kube: Kube, number: int, seconds: float) -> float:
    """Until the work is applied at so many clusters; how long it took."""
    begin = time.monotonic()

    async def look() -> bool:
        await asyncio.sleep(1)
        found = await kube.get(REPLICA_SETS, "task", "tasks")
        return bool(((found.get("status") or {}).get("summary") or {}).get("applied") == number)

    await until(f"applied at {number} clusters", look, seconds)
    return time.monotonic() - begin


async def write_tokens(kube: Kube, folder: Path, number: int) -> dict[str, Path]:
    """A token for each cluster."""
    tokens: dict[str, Path] = {}
    turn = asyncio.Semaphore(16)

    async def write(name: str) -> None:
        async with turn:
            token = make_token(name)
            await publish_token(kube, token, 7200)
            tokens[name] = folder / f"{name}.token"
            tokens[name].write_text(token.text)

    async with asyncio.TaskGroup() as group:
        for index in range(number):
            group.create_task(write(f"edge-{index:04}"))
    return tokens


async def write_allowed(agents: list[SmallAgent], path: Path) -> None:
    """The list of devices that need no person, as the factory knows them."""
    found = [{"serial": each.config.serial, "key": await each.vault.get_key()} for each in agents]
    path.write_text(json.dumps(found))


async def deploy(kube: Kube, text: str) -> None:
    """A work for all edges with one kind of GPU."""
    wanted = [{"key": "gpu", "operator": "In", "values": ["adreno-630"]}]
    predicate = {"requiredClusterSelector": {"claimSelector": {"matchExpressions": wanted}}}
    meta = {"name": "task", "namespace": "tasks"}
    head = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "task", "namespace": "default"}}
    spec = {
        "manifestWorkTemplate": {"workload": {"manifests": [{**head, "data": {"x": text}}]}},
        "placementRefs": [{"name": "task"}],
    }
    await kube.apply(NAMESPACES, {"metadata": {"name": "tasks"}}, owner="t")
    await kube.apply(PLACEMENTS, {"metadata": meta, "spec": {"predicates": [predicate]}}, owner="t")
    await kube.apply(REPLICA_SETS, {"metadata": meta, "spec": spec}, owner="t")


def test_a_thousand_edges_survive_the_restart_of_their_hub(planes: dict[str, ApiServer], tmp_path: Path) -> None:
    server, allowed = planes["hub"], tmp_path / "allowed.json"

    async def story() -> None:
        kube = Kube(load_access(server.config), links=16)
        await install(kube, Deadline.after(60))
        tokens = await write_tokens(kube, tmp_path, EDGES)
        async with open_fleet(server, tokens, tmp_path / "edges", spread=30.0) as agents:
            await write_allowed(agents, allowed)
            with hub_process(server, tmp_path, allowed):
                seconds = await wait_until_ready(kube, EDGES, 420)
                log.warning("%d edges registered and ready in %.0f s", EDGES, seconds)
                await deploy(kube, "first")
                third = len([each for each in agents if each.config.claims["gpu"] == "adreno-630"])
                log.warning("work at %d edges in %.1f s", third, await wait_for_applied(kube, third, 120))
            certificates = {each.identity.certificate for each in agents if each.identity is not None}
            await deploy(kube, "while the hub was down")
            await asyncio.sleep(10)
            begin = time.monotonic()
            with hub_process(server, tmp_path, allowed):

                async def spread() -> bool:
                    found = [each.local.made.get(("configmaps", "default", "task")) for each in agents]
                    texts = [each["data"]["x"] for each in found if each is not None]
                    return len(texts) == third and set(texts) == {"while the hub was down"}

                await until("the work is at all edges", spread, 120)
                log.warning("after a restart: work at all edges in %.1f s", time.monotonic() - begin)
                await asyncio.sleep(20)
                assert await count_ready(kube) == EDGES
            # Nobody had to register again.
            assert {each.identity.certificate for each in agents if each.identity is not None} == certificates
            assert all(each.word == "in touch" for each in agents)
        kube.close()

    asyncio.run(story())
