"""Hubs and agents inside a test: the real code in the test's own event loop, against real API servers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from api_servers import ApiServer

from cumulet.central.access import Access, load_access
from cumulet.central.agent.config import AgentConfig, HubConfig
from cumulet.central.agent.process import Agent
from cumulet.central.hub.approval import approve, find_candidate
from cumulet.central.hub.install import install
from cumulet.central.hub.process import Hub
from cumulet.central.hub.tokens import make_token, publish_token
from cumulet.central.kube import Json, Kube, RefusedError
from cumulet.central.protocol import CLUSTERS, WORKS, find_condition
from cumulet.core.deadline import Deadline


async def until(what: str, check: Callable[[], Awaitable[Any]], seconds: float = 40) -> Any:
    """The first answer of `check` that is something; fails naming `what`."""
    end = time.monotonic() + seconds
    while True:
        found = await check()
        if found:
            return found
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.2)


@asynccontextmanager
async def running(work: Awaitable[None]) -> AsyncIterator[asyncio.Task[None]]:
    """Something that runs beside the test; what it dies of fails the test."""
    task = asyncio.ensure_future(work)
    assert isinstance(task, asyncio.Task)
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def open_hub(server: ApiServer, **more: Any) -> AsyncIterator[Hub]:
    """A hub on an API server, with everything that it needs there."""
    kube = Kube(load_access(server.config))
    await install(kube, Deadline.after(60))
    hub = Hub(kube, **more)
    async with running(hub.run()):
        await asyncio.wait_for(hub.fleet.wait(), 30)
        yield hub
    kube.close()


async def write_token(hub: Hub, cluster: str, folder: Path, life: float = 3600) -> Path:
    """A token for a cluster, in a file."""
    token = make_token(cluster)
    await publish_token(hub.kube, token, life)
    path = folder / f"{cluster}.token"
    folder.mkdir(exist_ok=True)
    path.write_text(token.text)
    return path


def make_config(cluster: str, hubs: list[tuple[ApiServer, Path]], folder: Path, **more: Any) -> AgentConfig:
    """The agent of a cluster, with the hubs that it may be under and its token for each."""
    found = tuple(HubConfig(server.server, token, server.folder / "ca.crt") for server, token in hubs)
    return AgentConfig(cluster=cluster, hubs=found, state=folder / f"state-{cluster}", **{"feedback": 1.0, **more})


@asynccontextmanager
async def open_agent(config: AgentConfig, local: ApiServer) -> AsyncIterator[Agent]:
    """A running agent of the cluster behind an API server."""
    agent = Agent(config, load_access(local.config))
    async with running(agent.run()):
        yield agent
    agent.local.close()
    await asyncio.to_thread(agent.traces.close)
    if agent.session is not None:
        agent.session.hub.close()


async def let_in(hub: Hub, cluster: str) -> None:
    """What the hub's administrator does when a cluster has come."""

    async def come() -> bool:
        found = await hub.kube.find(CLUSTERS, cluster)
        return found is not None and bool((await find_candidate(hub.kube, cluster)).wishes)

    await until(f"{cluster} asks", come)
    await approve(hub.kube, await find_candidate(hub.kube, cluster))


async def wait_for_condition(hub: Hub, cluster: str, kind: str, status: str, seconds: float = 60) -> Json:
    """The condition of a cluster, once it has this status."""

    async def look() -> Json | None:
        found = find_condition((await hub.kube.get(CLUSTERS, cluster)).get("status", {}).get("conditions", ()), kind)
        return found if found is not None and found["status"] == status else None

    condition: Json = await until(f"{cluster}: {kind} is {status}", look, seconds)
    return condition


async def wait_for_work(hub: Hub, cluster: str, name: str, kind: str, status: str = "True") -> Json:
    """A work, once it has a condition."""

    async def look() -> Json | None:
        found = await hub.kube.find(WORKS, name, cluster)
        if found is None:
            return None
        condition = find_condition((found.get("status") or {}).get("conditions") or (), kind)
        good = condition is not None and condition["status"] == status
        return (
            found
            if good and condition and condition.get("observedGeneration", 0) >= found["metadata"]["generation"]
            else None
        )

    work: Json = await until(f"{cluster}/{name}: {kind} is {status}", look)
    return work


async def refused(call: Awaitable[Any]) -> RefusedError:
    """The refusal of a call that must be refused."""
    try:
        found = await call
    except RefusedError as error:
        return error
    raise AssertionError(f"was allowed: {found}")


def as_agent(agent: Agent) -> Access:
    """The hub, as an agent reaches it: what somebody has who has stolen its certificate."""
    assert agent.session is not None
    return agent.session.hub.access
