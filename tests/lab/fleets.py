"""Many edges in one process: the real agent, except that keys are made in place and the clusters behind are made up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from api_servers import ApiServer

from cumulet.central.agent import enrol
from cumulet.central.agent.config import AgentConfig, HubConfig
from cumulet.central.agent.process import Agent
from cumulet.central.agent.vault import Vault
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource

NODE = {"cpu": "8", "memory": "6Gi", "pods": "110"}


class PlaceVault(Vault):
    """Makes keys and requests in this process: a program for each would take an hour."""

    async def _ask(self, verb: str, **more: Any) -> dict[str, Any]:
        return enrol.VERBS[verb]({"folder": str(self.folder), **more})


class MadeUpCluster(Kube):
    """A cluster that takes everything and says the same of itself for ever."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.made: dict[tuple[str, str, str], Json] = {}

    async def alive(self) -> bool:
        """It does."""
        return True

    async def call(self, method: str, path: str, body: Json | None = None, **more: Any) -> Json:
        """Its version, and which kinds it serves."""
        if path == "/version":
            return {"gitVersion": "v1.36.3"}
        return {"resources": [{"name": "configmaps", "kind": "ConfigMap", "namespaced": True}]}

    async def find(self, resource: Resource, name: str, namespace: str = "") -> Json | None:
        """What was applied, or the namespace that gives it its identity."""
        if resource.kind == "Namespace":
            return {"metadata": {"uid": f"uid-of-{self.name}"}}
        return self.made.get((resource.plural, namespace, name))

    async def pages(self, query: Query, size: int = 0) -> AsyncIterator[Json]:
        """One node."""
        yield {"items": [{"status": {"capacity": NODE, "allocatable": NODE}, "spec": {}}], "metadata": {}}

    async def collect(self, query: Query) -> list[Json]:
        """Nothing else."""
        return []

    async def apply(self, resource: Resource, body: Json, *, owner: str, force: bool = True, sub: str = "") -> Json:
        """Take it."""
        meta = body["metadata"]
        key = (resource.plural, meta.get("namespace", ""), meta["name"])
        old = self.made.get(key, {})
        whole = {"apiVersion": resource.api_version, "kind": resource.kind, **old, **body}
        whole["metadata"] = {**old.get("metadata", {}), **meta, "uid": f"{self.name}-{meta['name']}"}
        self.made[key] = whole
        return whole

    async def delete(self, resource: Resource, name: str, namespace: str = "", *, uid: str = "", how: str = "") -> bool:
        """Drop it."""
        return self.made.pop((resource.plural, namespace, name), None) is not None

    async def patch(self, resource: Resource, name: str, change: Json, namespace: str = "", *, sub: str = "") -> Json:
        """Only finalizers are changed so."""
        if (resource.plural, namespace, name) not in self.made:
            raise RefusedError("not there", 404, "NotFound")
        return self.made[resource.plural, namespace, name]

    def close(self) -> None:
        """There is nothing to leave."""


class SmallAgent(Agent):
    """The real agent on a made-up cluster."""

    def __init__(self, config: AgentConfig) -> None:
        self.config = config
        self.vault = PlaceVault(config.state)
        self.local = MadeUpCluster(config.cluster)
        self._begin()

    async def _write_status(self) -> None:
        """Nobody reads it."""


@asynccontextmanager
async def open_fleet(
    server: ApiServer, tokens: dict[str, Path], folder: Path, spread: float
) -> AsyncIterator[list[SmallAgent]]:
    """Agents of many clusters, started over `spread` seconds."""
    agents = []
    for index, (name, token) in enumerate(tokens.items()):
        hub = HubConfig(server.server, token, server.folder / "ca.crt")
        claims = {"gpu": ("adreno-630", "adreno-750", "mali-g610")[index % 3]}
        config = AgentConfig(
            cluster=name, hubs=(hub,), state=folder / name, claims=claims, serial=f"SN-{name}", feedback=60.0
        )
        agents.append(SmallAgent(config))

    async def begin(index: int, agent: SmallAgent) -> None:
        await asyncio.sleep(spread * index / len(agents))
        await agent.run()

    tasks = [asyncio.create_task(begin(index, agent)) for index, agent in enumerate(agents)]
    try:
        yield agents
        died = [task.exception() for task in tasks if task.done() and not task.cancelled()]
        assert not died, died[:3]
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task
