"""How an agent gets its certificate: makes its cluster known, asks, and waits for the hub's people.

A request that is under way is waited for again after a restart; a device that comes
back after its certificate has run out asks with the same key.
"""

from __future__ import annotations

import asyncio
import base64
import logging
import random
from dataclasses import dataclass

from cumulet.central.access import NARROW_SEGMENT, Access, as_token, as_user
from cumulet.central.agent.config import AgentConfig, HubConfig, read_serial
from cumulet.central.agent.vault import Identity, Vault
from cumulet.central.kube import Json, Kube, RefusedError
from cumulet.central.protocol import (
    CLUSTER_LABEL,
    CLUSTERS,
    DEVICE_KEY,
    LEASE_SECONDS,
    REQUESTS,
    SERIAL,
    SIGNER,
    USAGES,
    make_user,
)
from cumulet.core.errors import TargetError, UsageError

WAITS = (2.0, 2.0, 3.0, 5.0, 8.0, 15.0, 30.0)
"""Seconds between two looks at a request; the last for ever after."""
log = logging.getLogger("cumulet.agent")


class DeniedError(TargetError):
    """The hub's people, or its rules, have refused our request."""


@dataclass(frozen=True, slots=True)
class Applicant:
    """Who asks whom."""

    config: AgentConfig
    hub: HubConfig
    vault: Vault

    @property
    def user(self) -> str:
        """The user that the certificate is for."""
        return make_user(self.config.cluster, self.config.agent)

    def access(self) -> Access:
        """The hub, as nobody. Raises UsageError."""
        authority = read_text(self.hub.authority) if self.hub.authority else ""
        return Access(self.hub.server, authority, segment=NARROW_SEGMENT)

    def token_access(self) -> Access:
        """The hub, with the token that lets newcomers in. Raises UsageError."""
        if self.hub.token is None:
            raise UsageError(f"{self.hub.server}: there is no token to register with", hint="cumulet hub token NAME")
        return as_token(self.access(), read_text(self.hub.token).strip())

    def user_access(self, identity: Identity) -> Access:
        """The hub, as ourselves."""
        return as_user(self.access(), identity.certificate, identity.key)


def read_text(path: object) -> str:
    """The text of a file that the document names. Raises UsageError."""
    from pathlib import Path  # noqa: PLC0415 - for the type alone

    found = Path(str(path))
    try:
        return found.read_text()
    except OSError as error:
        raise UsageError(f"{found}: cannot be read: {error.strerror}") from error


async def enrol(applicant: Applicant) -> Identity:
    """A first certificate, or one after a long absence. Waits as long as it takes.

    Raises DeniedError, RefusedError, UnreachableError, UsageError.
    """
    kube = Kube(applicant.token_access(), agent="cumulet-agent", links=1)
    try:
        await make_known(kube, applicant)
        return await ask(kube, applicant)
    finally:
        kube.close()


async def make_known(kube: Kube, applicant: Applicant) -> None:
    """Make our cluster known, if it is not. A token that only lets us back in may not even look."""
    name = applicant.config.cluster
    try:
        if await kube.find(CLUSTERS, name) is not None:
            return
        spec = {"hubAcceptsClient": False, "leaseDurationSeconds": LEASE_SECONDS}
        body = {"apiVersion": CLUSTERS.api_version, "kind": CLUSTERS.kind, "metadata": {"name": name}, "spec": spec}
        await kube.create(CLUSTERS, body)
        log.info("%s: made known at %s", name, kube.access.host)
    except RefusedError as error:
        if error.status == 401:
            raise RefusedError(
                f"{kube.access.host}: the token is not valid (any more)", error.status, error.reason
            ) from error
        if error.status not in (403, 409):
            raise
        log.info("%s", error.message)


async def renew(kube: Kube, applicant: Applicant) -> Identity:
    """A new certificate, asked for with the one that is about to run out. Raises as `enrol` does."""
    return await ask(kube, applicant)


async def ask(kube: Kube, applicant: Applicant) -> Identity:
    """Ask for a certificate, and wait for it."""
    server, vault = applicant.hub.server, applicant.vault
    name = vault.load_request(server)
    if not name or await look(kube, name) is None:
        name = await make_request(kube, applicant)
        vault.keep_request(server, name)
    count = 0
    while True:
        found = await look(kube, name)
        if found is None:
            vault.forget_request(server)
            raise DeniedError(f"{kube.access.host}: request {name} is not there any more")
        text = read_issued(found, f"{kube.access.host}: request {name}")
        if text:
            return await vault.keep_certificate(server, text, applicant.user)
        if count == len(WAITS):
            log.info("%s: request %s waits for approval", kube.access.host, name)
        await asyncio.sleep(WAITS[min(count, len(WAITS) - 1)] * random.uniform(0.75, 1.25))  # noqa: S311
        count += 1


async def look(kube: Kube, name: str) -> Json | None:
    """A request. One that we may not see yet is as good as one that is waiting."""
    try:
        return await kube.find(REQUESTS, name)
    except RefusedError as error:
        if error.status == 403:
            return {"status": {}}
        raise


async def make_request(kube: Kube, applicant: Applicant) -> str:
    """Send a request; gives back the name that the hub has given it."""
    config = applicant.config
    text, key = await applicant.vault.make_request(config.cluster, config.agent)
    serial = read_serial(config)
    annotations = {DEVICE_KEY: key, **({SERIAL: serial} if serial else {})}
    body: Json = {
        "apiVersion": REQUESTS.api_version,
        "kind": REQUESTS.kind,
        "metadata": {
            "generateName": f"{config.cluster}-",
            "labels": {CLUSTER_LABEL: config.cluster},
            "annotations": annotations,
        },
        "spec": {
            "signerName": SIGNER,
            "usages": list(USAGES),
            "request": base64.b64encode(text.encode()).decode(),
            "expirationSeconds": config.certificate_life,
        },
    }
    made = await kube.create(REQUESTS, body)
    log.info("%s: request %s sent, with the key %s", kube.access.host, made["metadata"]["name"], key)
    return str(made["metadata"]["name"])


def read_issued(found: Json, what: str) -> str:
    """The certificate in a request, or an empty text while it waits. Raises DeniedError."""
    status = found.get("status") or {}
    for each in status.get("conditions") or ():
        if each["type"] in ("Denied", "Failed"):
            raise DeniedError(f"{what} was refused: {each.get('reason', '')}: {each.get('message', '')}".rstrip(": "))
    text = status.get("certificate")
    return base64.b64decode(text).decode() if text else ""
