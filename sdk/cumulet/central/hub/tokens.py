"""Tokens that let clusters in: for one cluster, for some time, and once used only for that device's return."""

from __future__ import annotations

import base64
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.central.hub.roles import make_newcomer_role
from cumulet.central.kube import Json, Kube, Query, RefusedError
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    CLUSTER_LABEL,
    HUB_OWNER,
    NEWCOMERS,
    RETURN_GROUP,
    SECRETS,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
SYSTEM = "kube-system"
USER = "system:bootstrap:"


@dataclass(frozen=True, slots=True)
class Token:
    """A bootstrap token. `cluster` empty: for any cluster, as stock agents want it."""

    id: str
    secret: str
    cluster: str

    @property
    def text(self) -> str:
        """As it is sent to the API server."""
        return f"{self.id}.{self.secret}"


def make_token(cluster: str) -> Token:
    """A new token."""
    name, secret = ("".join(secrets.choice(LETTERS) for _ in range(length)) for length in (6, 16))
    return Token(name, secret, cluster)


def make_token_secret(token: Token, life: float, now: float | None = None) -> Json:
    """The Secret that makes the token known for `life` seconds."""
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((time.time() if now is None else now) + life))
    group = f"{BOOTSTRAP_GROUP}:{token.cluster}" if token.cluster else BOOTSTRAP_GROUP
    labels = {"labels": {CLUSTER_LABEL: token.cluster}} if token.cluster else {}
    return {
        "metadata": {"name": f"bootstrap-token-{token.id}", "namespace": SYSTEM, **labels},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "description": f"lets {token.cluster or 'any cluster'} register at this hub",
            "token-id": token.id,
            "token-secret": token.secret,
            "expiration": end,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": f"{group},{NEWCOMERS}",
        },
    }


async def publish_token(kube: Kube, token: Token, life: float) -> None:
    """Make the token known, and what it may do. Raises RefusedError."""
    for resource, body in make_newcomer_role(token.cluster) if token.cluster else ():
        await kube.apply(resource, body, owner=HUB_OWNER)
    await kube.apply(SECRETS, make_token_secret(token, life), owner=HUB_OWNER)


def make_narrowing(cluster: str) -> Json:
    """The change that leaves a used token good for nothing but the return of the device that used it."""
    groups = base64.b64encode(f"{RETURN_GROUP}:{cluster},{NEWCOMERS}".encode()).decode()
    return {"data": {"auth-extra-groups": groups, "expiration": None}}


async def narrow_tokens(kube: Kube, cluster: str) -> int:
    """Narrow every token of a cluster that has joined. Gives back how many there were."""
    found = await kube.collect(Query(SECRETS, SYSTEM, f"{CLUSTER_LABEL}={cluster}"))
    wanted = make_narrowing(cluster)["data"]["auth-extra-groups"]
    left = [each for each in found if (each.get("data") or {}).get("auth-extra-groups") != wanted]
    for each in left:
        await kube.patch(SECRETS, each["metadata"]["name"], make_narrowing(cluster), SYSTEM)
    return len(left)


async def revoke_user(kube: Kube, user: str) -> bool:
    """Take away the token that a user has come with. Gives back whether it was one of a token."""
    if not user.startswith(USER):
        return False
    return await kube.delete(SECRETS, f"bootstrap-token-{user.removeprefix(USER)}", SYSTEM)


async def revoke_cluster(kube: Kube, cluster: str) -> int:
    """Take away every token of a cluster. Gives back how many there were."""
    found: Sequence[Json] = await kube.collect(Query(SECRETS, SYSTEM, f"{CLUSTER_LABEL}={cluster}"))
    count = 0
    for each in found:
        try:
            count += await kube.delete(SECRETS, each["metadata"]["name"], SYSTEM)
        except RefusedError as error:
            if error.status != 404:
                raise
    return count
