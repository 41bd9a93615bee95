"""The agent as one process: under one hub at a time, under the next when that one has been out of reach for long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import Any

from cumulet.central.access import Access, load_access, load_own_access
from cumulet.central.agent.config import AgentConfig, HubConfig
from cumulet.central.agent.registration import Applicant, DeniedError, enrol
from cumulet.central.agent.session import NotAcceptedError, RejectedError, RenewedError, Session
from cumulet.central.agent.vault import Identity, Vault
from cumulet.central.crds import make_agent_crds
from cumulet.central.kube import Kube
from cumulet.central.protocol import AGENT_OWNER, CRDS
from cumulet.central.traces import open_traces
from cumulet.core.errors import CumuletError

FIRST_WAIT, MOST_WAIT = 2.0, 60.0
DENIED_SECONDS = 300.0
STATUS_SECONDS = 15.0
log = logging.getLogger("cumulet.agent")


class Agent:
    """Keeps a cluster under one of its hubs."""

    def __init__(self, config: AgentConfig, local: Access | None = None) -> None:
        self.config = config
        self.vault = Vault(config.state)
        self.local = Kube(local or find_local(config), agent="cumulet-agent", links=2)
        self._begin()

    def _begin(self) -> None:
        self.traces = open_traces(self.config.traces, "cumulet-agent", self.config.cluster)
        self.word = "starting"
        self.trouble = ""
        self.session: Session | None = None
        self.identity: Identity | None = None
        self._hub = self._find_hub()
        self._contact = time.monotonic()
        self._since = time.time()

    def _find_hub(self) -> HubConfig:
        last = self.vault.load_hub()
        return next((each for each in self.config.hubs if each.server == last), self.config.hubs[0])

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._write_status())
            group.create_task(self._live())

    async def _live(self) -> None:
        wait = FIRST_WAIT
        while True:
            self._choose_hub()
            begin = time.monotonic()
            try:
                await self._prepare()
                await self._meet()
            except RenewedError as news:
                log.info("%s: %s", self._hub.server, news.message)
                continue
            except DeniedError as error:
                self._fail(error)
                wait = max(wait, min(DENIED_SECONDS, self.config.failover / 2))
            except NotAcceptedError as error:
                self._fail(error)
            except RejectedError as error:
                self._fail(error)
                self.identity = None
            except CumuletError as error:
                self._fail(error)
            if self.session is not None and self.session.hub.heard > begin:
                wait = FIRST_WAIT
            await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311 - not all at once
            wait = min(wait * 2, MOST_WAIT)

    def _fail(self, error: CumuletError) -> None:
        if self.trouble != error.message:
            log.warning("%s", error.message)
        self.trouble = error.message
        self._tell("out of touch")

    def _choose_hub(self) -> None:
        """Stay under our hub; go to the next one in the list when it has been out of reach for too long."""
        if self.session is not None:
            self._contact = max(self._contact, self.session.hub.heard if self.word == "in touch" else 0.0)
        if len(self.config.hubs) < 2 or time.monotonic() - self._contact < self.config.failover:
            return
        place = self.config.hubs.index(self._hub)
        self._hub = self.config.hubs[(place + 1) % len(self.config.hubs)]
        self._contact = time.monotonic()
        self.identity, self.session = None, None
        log.warning("going to the next hub: %s", self._hub.server)

    async def _prepare(self) -> None:
        """What our own cluster must know for us to work there."""
        for body in make_agent_crds():
            await self.local.apply(CRDS, body, owner=AGENT_OWNER)

    async def _meet(self) -> None:
        applicant = Applicant(self.config, self._hub, self.vault)
        rejected = self.identity is None and self.session is not None
        found = None if rejected else await self.vault.load_identity(self._hub.server, applicant.user)
        if found is None or not found.is_valid(time.time()):
            self._tell("asking for a certificate")
            async with asyncio.timeout(self._patience()):
                found = await enrol(applicant)
        self.identity = found
        self.session = Session(applicant, found, self.local, self._met, self.traces)
        await self._with_patience(self.session)

    def _patience(self) -> float | None:
        """For how long one hub is waited for: for ever when there is no other."""
        return self.config.failover if len(self.config.hubs) > 1 else None

    async def _with_patience(self, session: Session) -> None:
        """Run a session; leave it when its hub is silent for too long and there is another one."""
        task = asyncio.create_task(session.run())
        try:
            while not task.done():
                await asyncio.wait([task], timeout=min(STATUS_SECONDS, self.config.failover / 4))
                silent = time.monotonic() - max(session.hub.heard, self._contact)
                if self._patience() and silent > self.config.failover:
                    raise CumuletError(f"{self._hub.server}: silent for {silent:.0f} s")
            await task
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def _met(self, word: str) -> None:
        if word == "in touch":
            self.vault.keep_hub(self._hub.server)
            self.trouble = ""
            self._contact = time.monotonic()
        self._tell(word)

    def _tell(self, word: str) -> None:
        if word != self.word:
            self.word, self._since = word, time.time()
            log.info("%s: %s", self._hub.server, word)
            self._keep_status()

    def _keep_status(self) -> None:
        with contextlib.suppress(OSError):  # a full disk is no reason to leave the hub
            self.vault.keep_status(self.make_status())

    def make_status(self) -> dict[str, Any]:
        """How we are, for people."""
        hub = self.session.hub if self.session is not None else None
        works = self.session.works.items if self.session is not None else None
        return {
            "cluster": self.config.cluster,
            "hub": self._hub.server,
            "state": self.word,
            "since": self._since,
            "trouble": self.trouble,
            "certificate_until": self.identity.until if self.identity is not None else None,
            "clock_behind": round(hub.skew, 1) if hub is not None and hub.skew is not None else None,
            "silent": round(time.monotonic() - hub.heard, 1) if hub is not None and hub.heard else None,
            "works": len(works) if works is not None else 0,
            "sent": hub.traffic.sent if hub is not None else 0,
            "received": hub.traffic.received if hub is not None else 0,
        }

    async def _write_status(self) -> None:
        while True:
            self._keep_status()
            await asyncio.sleep(STATUS_SECONDS)


def find_local(config: AgentConfig) -> Access:
    """Our own API server: as the document says, or as the pod that we are. Raises UsageError, ToolError."""
    return load_access(config.local) if config.local is not None else load_own_access()


async def run_agent(config: AgentConfig, started: Callable[[Agent], None] = lambda agent: None) -> None:
    """Run an agent until cancelled."""
    agent = Agent(config)
    started(agent)
    try:
        await agent.run()
    finally:
        agent.local.close()
        await asyncio.to_thread(agent.traces.close)
