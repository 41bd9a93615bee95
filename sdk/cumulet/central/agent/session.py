"""What an agent does while it is in touch with a hub: renews the lease, reports, works, renews its certificate.

Each part finds its way again by itself after a broken connection. The session ends
when its certificate is renewed, or when the hub does not accept it any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Callable

from cumulet.central.agent.local import LocalFacts, make_status, probe_facts, probe_health
from cumulet.central.agent.registration import Applicant, renew
from cumulet.central.agent.told import load_pulse, set_pulse
from cumulet.central.agent.vault import Identity
from cumulet.central.agent.works import Works
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError
from cumulet.central.link import UnreachableError
from cumulet.central.protocol import (
    AGENT_OWNER,
    AVAILABLE,
    CLUSTERS,
    HUB_CLAIM,
    JOINED,
    LEASE,
    LEASE_SECONDS,
    LEASES,
    find_condition,
    make_condition,
    make_hub_hash,
    make_time,
    same_condition,
)
from cumulet.central.pulse import Pulse, same_shape
from cumulet.central.traces import Traces
from cumulet.core.errors import CumuletError, TargetError

LOOK_SECONDS = 10.0
FACTS_SECONDS = 60.0
UNWELL_SECONDS = 20.0
RENEWAL_SECONDS = 60.0
ACCEPT_SECONDS = 15.0
WRONG_CLOCK_SECONDS = 60.0
FIRST_WAIT, MOST_WAIT = 1.0, 20.0
log = logging.getLogger("cumulet.agent")


class NotAcceptedError(TargetError):
    """The hub knows us and does not accept us (any more)."""


class RejectedError(TargetError):
    """The hub does not take our certificate (any more)."""


class RenewedError(CumuletError):
    """There is a new certificate; the session goes on with it."""


def keep_cluster(found: Json) -> Json:
    """Of our ManagedCluster, all but the book-keeping."""
    found["metadata"].pop("managedFields", None)
    return found


class Session:
    """One certificate at one hub. `tell` is called with a word for what we are: waiting, in touch."""

    def __init__(
        self,
        applicant: Applicant,
        identity: Identity,
        local: Kube,
        tell: Callable[[str], None],
        traces: Traces | None = None,
    ) -> None:
        self.applicant, self.identity, self.local = applicant, identity, local
        self.config = applicant.config
        self.hub = Kube(applicant.user_access(identity), agent="cumulet-agent", links=2)
        self.works = Works(self.hub, local, self.config, make_hub_hash(applicant.hub.server), traces)
        self.cluster: Informer[Json] = Informer(
            self.hub, Query(CLUSTERS, fields=f"metadata.name={self.config.cluster}"), keep_cluster, self._changed
        )
        self.facts: LocalFacts | None = None
        self.pulse: Pulse | None = None
        self._told_pulse: Pulse | None = None
        self._tell = tell
        self._look = asyncio.Event()
        self._sooner = asyncio.Event()
        self._looked = 0.0
        self._unwell_since: float | None = None
        self._clock_said = False

    @property
    def now(self) -> float:
        """The time by the hub's clock."""
        return time.time() + (self.hub.skew or 0.0)

    def _changed(self, key: str, old: Json | None, new: Json | None) -> None:
        self._look.set()
        if old is not None and new is not None and _get_period(old) != _get_period(new):
            self._sooner.set()

    async def run(self) -> None:
        """Be in touch. Raises RenewedError, NotAcceptedError, RejectedError, UnreachableError."""
        try:
            await self._wait_for_acceptance()
            self._tell("in touch")
            async with asyncio.TaskGroup() as group:
                for part in (
                    self.cluster.run,
                    self._renew_lease,
                    self._report,
                    self._feel,
                    self._renew_certificate,
                    self.works.run,
                ):
                    group.create_task(part())
        except* CumuletError as errors:
            raise _first(errors) from None
        finally:
            self.hub.close()

    async def _wait_for_acceptance(self) -> None:
        told = False
        while not await self._is_accepted():
            if not told:
                self._tell("waiting for the hub to accept this cluster")
            told = True
            await asyncio.sleep(ACCEPT_SECONDS * random.uniform(0.75, 1.25))  # noqa: S311 - not all at once

    async def _is_accepted(self) -> bool:
        try:
            found = await self.hub.get(CLUSTERS, self.config.cluster)
        except RefusedError as error:
            if error.status == 403:
                return False
            raise self._explain(error) from error
        return bool(found["spec"].get("hubAcceptsClient"))

    def _explain(self, error: RefusedError) -> CumuletError:
        """The error as what it means for the session."""
        if error.status == 401:
            return RejectedError(f"{self.hub.access.host}: it does not take our certificate")
        if error.status in (403, 404):
            return NotAcceptedError(f"{self.hub.access.host}: {self.config.cluster} is not accepted (any more)")
        return error

    # --- the lease

    async def _renew_lease(self) -> None:
        lease: Json | None = None
        wait = FIRST_WAIT
        while True:
            try:
                lease = await self._renew_once(lease)
            except UnreachableError as error:
                log.info("lease: %s", error.message)
                await asyncio.sleep(wait * random.uniform(0.75, 1.25))  # noqa: S311
                wait = min(wait * 2, MOST_WAIT)
                continue
            wait = FIRST_WAIT
            self._check_clock()
            self._sooner.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.lease_seconds * random.uniform(1.0, 1.25)):  # noqa: S311
                    await self._sooner.wait()

    async def _renew_once(self, lease: Json | None) -> Json | None:
        try:
            found = lease or await self.hub.get(LEASES, LEASE, self.config.cluster)
            found["metadata"].pop("managedFields", None)
            found["spec"]["renewTime"] = make_time(micro=True)
            told = self.pulse
            set_pulse(found, told)
            written = await self.hub.replace(LEASES, found)
            self._told_pulse = told
            return written
        except RefusedError as error:
            if error.status in (404, 409):
                await asyncio.sleep(FIRST_WAIT)
                return None
            if error.status in (401, 403) and not await self._is_accepted():
                raise self._explain(error) from error
            if error.status == 401:
                raise self._explain(error) from error
            log.warning("lease: %s", error.message)
            await asyncio.sleep(FIRST_WAIT)
            return None

    @property
    def lease_seconds(self) -> int:
        """How often the hub wants to hear from us."""
        return _get_period(self.cluster.get(self.config.cluster) or {"spec": {}})

    def _check_clock(self) -> None:
        skew = self.hub.skew or 0.0
        if abs(skew) < WRONG_CLOCK_SECONDS:
            self._clock_said = False
        elif not self._clock_said:
            side = "behind" if skew > 0 else "ahead of"
            log.error(
                "this device's clock is %.0f s %s the hub's: certificates may be taken for wrong", abs(skew), side
            )
            self._clock_said = True

    # --- the pulse

    async def _feel(self) -> None:
        """Know what is to be told with the next lease; tell it sooner when more than amounts has changed."""
        said = ""
        while True:
            try:
                is_hub = self.facts is not None and self.facts.claims.get(HUB_CLAIM) == "true"
                self.pulse, wrong = await load_pulse(self.local, self.config.run, is_hub), ""
            except CumuletError as error:
                wrong = error.message
            if wrong not in ("", said):
                log.warning("pulse: %s", wrong)
            said = wrong
            if not same_shape(self.pulse, self._told_pulse):
                self._sooner.set()
            await asyncio.sleep(LOOK_SECONDS)

    # --- the status

    async def _report(self) -> None:
        """Say how our cluster is, when that changes, or when the hub has another opinion."""
        await self.cluster.synced.wait()
        while True:
            self._look.clear()
            try:
                await self._report_once()
            except UnreachableError as error:
                log.info("status: %s", error.message)
            except RefusedError as error:
                log.warning("status: %s", error.message)
            try:
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._look.wait()
            except TimeoutError:
                continue
            await asyncio.sleep(FIRST_WAIT)

    async def _report_once(self) -> None:
        found = self.cluster.get(self.config.cluster)
        if found is None:
            return
        if not found["spec"].get("hubAcceptsClient"):
            raise NotAcceptedError(f"{self.hub.access.host}: {self.config.cluster} is not accepted (any more)")
        wrong = await probe_health(self.local)
        now = time.monotonic()
        if not wrong and (self.facts is None or now - self._looked > FACTS_SECONDS):
            self.facts = await probe_facts(self.local, self.config)
            self._looked = now
        before = (found.get("status") or {}).get("conditions") or ()
        conditions = [make_condition(JOINED, "True", JOINED, "Managed cluster joined", before)]
        available = self._judge_health(wrong, now, before)
        if available is not None:
            conditions.append(available)
        status = make_status(self.facts or LocalFacts("", {}, {}), conditions)
        if not same_status(status, found.get("status") or {}):
            body = {"metadata": {"name": self.config.cluster}, "status": status}
            await self.hub.apply(CLUSTERS, body, owner=AGENT_OWNER, sub="status")

    def _judge_health(self, wrong: str, now: float, before: object) -> Json | None:
        """The condition that says how our API server is; what passes within seconds is not told."""
        known: list[Json] = list(before) if isinstance(before, list | tuple) else []
        if not wrong:
            self._unwell_since = None
            words = ("True", "ManagedClusterAvailable", "Managed cluster is available")
            return make_condition(AVAILABLE, *words, before=known)
        self._unwell_since = self._unwell_since if self._unwell_since is not None else now
        if now - self._unwell_since < UNWELL_SECONDS:
            return find_condition(known, AVAILABLE)
        return make_condition(AVAILABLE, "False", "ManagedClusterKubeAPIServerUnavailable", wrong, known)

    # --- the certificate

    async def _renew_certificate(self) -> None:
        while True:
            if self.identity.wants_renewal(self.now):
                try:
                    await renew(self.hub, self.applicant)
                except UnreachableError as error:
                    log.info("certificate: %s", error.message)
                except RefusedError as error:
                    log.warning("certificate: %s", error.message)
                else:
                    raise RenewedError("there is a new certificate")
            await asyncio.sleep(min(RENEWAL_SECONDS, 0.05 * (self.identity.until - self.identity.since)))


def _get_period(found: Json) -> int:
    return int(found["spec"].get("leaseDurationSeconds") or LEASE_SECONDS)


def same_status(wanted: Json, found: Json) -> bool:
    """Whether the hub has everything that we would tell it."""
    plain = ("version", "capacity", "allocatable", "clusterClaims")
    if any((wanted.get(name) or None) != (found.get(name) or None) for name in plain):
        return False
    known = found.get("conditions") or ()
    return all(same_condition(find_condition(known, each["type"]), each) for each in wanted["conditions"])


def _first(errors: BaseExceptionGroup[CumuletError]) -> CumuletError:
    found: BaseException = errors
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    assert isinstance(found, CumuletError)  # noqa: S101 - nothing else is in the group
    return found
