"""Who a token is and what it may do: asked of the API server, with the token itself; RBAC is Kubernetes' own.

The hub's rights are never lent. What a user sees from the hub's memory, the user may list; what a user changes is
changed with the user's token.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass

from cumulet.central.access import Access
from cumulet.central.kube import Json, Kube, RefusedError, Resource
from cumulet.central.page.deploy import NAMESPACE
from cumulet.central.protocol import CLUSTERS, PLACEMENTS, REPLICA_SETS, REQUESTS

SELVES = Resource("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview", False)
MAYS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", False)
KEEP_SECONDS = 30.0
MOST_USERS = 64
MOST_TOKEN = 16384
# What each right of the page needs; all of it.
RIGHTS: dict[str, tuple[tuple[str, Resource, str, str], ...]] = {
    "see": (("list", CLUSTERS, "", ""),),
    "rollouts": (("list", REPLICA_SETS, "", ""),),
    "waiting": (("list", REQUESTS, "", ""),),
    "approve": (("patch", CLUSTERS, "", ""), ("update", REQUESTS, "", "approval")),
    "deploy": (("create", PLACEMENTS, NAMESPACE, ""), ("create", REPLICA_SETS, NAMESPACE, "")),
}


@dataclass(frozen=True, slots=True)
class User:
    """Somebody with a token, and the rights that it has just now."""

    name: str
    rights: frozenset[str]
    kube: Kube


class Users:
    """Those who have asked lately. Their rights are asked for again after half a minute."""

    def __init__(self, access: Access, clock: Callable[[], float] = time.monotonic) -> None:
        self._access = Access(access.server, access.authority, server_name=access.server_name, segment=access.segment)
        self._clock = clock
        self._known: dict[str, tuple[float, User]] = {}
        self._turn = asyncio.Lock()

    async def find(self, token: str) -> User:
        """The user of a token. Raises RefusedError, with status 401 for a token that is none."""
        if not token or len(token) > MOST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
            raise RefusedError("a token is wanted", 401, "Unauthorized")
        key = hashlib.sha256(token.encode()).hexdigest()
        known = self._known.get(key)
        if known is not None and known[0] > self._clock():
            return known[1]
        async with self._turn:
            known = self._known.get(key)
            if known is not None and known[0] > self._clock():
                return known[1]
            user = await self._ask(token, known[1].kube if known is not None else None)
            self._known[key] = (self._clock() + KEEP_SECONDS, user)
            while len(self._known) > MOST_USERS:
                oldest = min(self._known, key=lambda each: self._known[each][0])
                self._known.pop(oldest)[1].kube.close()
        return user

    def close(self) -> None:
        """Forget everybody."""
        while self._known:
            self._known.popitem()[1][1].kube.close()

    async def _ask(self, token: str, kube: Kube | None) -> User:
        found = kube or Kube(
            Access(**{name: getattr(self._access, name) for name in COPIED}, token=token), agent="cumulet-page", links=4
        )
        try:
            who = await found.create(SELVES, {"apiVersion": SELVES.api_version, "kind": SELVES.kind})
            rights = [name for name, needs in RIGHTS.items() if await self._may(found, needs)]
        except BaseException:
            if kube is None:
                found.close()
            raise
        return User(str(who["status"]["userInfo"]["username"]), frozenset(rights), found)

    async def _may(self, kube: Kube, needs: tuple[tuple[str, Resource, str, str], ...]) -> bool:
        for verb, resource, namespace, sub in needs:
            asked = {"verb": verb, "group": resource.group, "resource": resource.plural}
            asked |= {"namespace": namespace} if namespace else {}
            asked |= {"subresource": sub} if sub else {}
            body: Json = {"apiVersion": MAYS.api_version, "kind": MAYS.kind, "spec": {"resourceAttributes": asked}}
            answer = await kube.create(MAYS, body)
            if not answer["status"].get("allowed"):
                return False
        return True


COPIED = ("server", "authority", "server_name", "segment")
