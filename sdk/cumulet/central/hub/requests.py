"""The controller of certificate requests: grants, refuses by name, and stops floods.

Ten open requests per user are a lot; what comes on top is deleted at once. A user who
goes on loses the token, or the cluster the right to ask, for an hour.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from cumulet.central.hub.clusters import write_condition
from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.judge import Allowed, Verdict, judge, read_request
from cumulet.central.hub.maker import Maker
from cumulet.central.hub.records import Cluster, Wish
from cumulet.central.hub.roles import make_cluster_role, make_requests_role
from cumulet.central.hub.tokens import USER as TOKEN_USER
from cumulet.central.hub.tokens import revoke_user
from cumulet.central.kube import Json, Kube, RefusedError
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    CLUSTERS,
    DEVICE_KEY,
    MOST_REQUESTS,
    REGISTER_GROUP,
    REQUESTS,
    REVIEWS,
    SERIAL,
    make_condition,
    make_time,
)
from cumulet.central.workqueue import WorkQueue

FLOOD_REQUESTS = 40
QUARANTINE_SECONDS = 3600.0
SHOWN_REQUESTS = 5
REFUSED = "CumuletRequestRefused"
"""Condition of a cluster: the last request in its name that was refused, and why."""
log = logging.getLogger("cumulet.hub")


class Requests:
    """Looks at every open request. `refused` counts refusals by their reason."""

    def __init__(self, fleet: Fleet, maker: Maker, allowed: Mapping[str, Sequence[Allowed]] | None = None) -> None:
        self.fleet, self.maker = fleet, maker
        self.kube: Kube = fleet.kube
        self.allowed = allowed or {}
        self.refused: Counter[str] = Counter()
        self.granted: Counter[str] = Counter()
        self.queue = WorkQueue("requests", self.handle, workers=4)
        self._excess: Counter[str] = Counter()
        self._quarantined: dict[str, float] = {}
        self._by_cluster: dict[str, set[str]] = {}
        self._open_by_user: dict[str, set[str]] = {}
        self._admitted: dict[str, set[str]] = {}
        fleet.on_wish.append(self._wish_changed)
        fleet.on_cluster.append(self._cluster_changed)

    def _wish_changed(self, key: str, old: Wish | None, new: Wish | None) -> None:
        for wish, there in ((old, False), (new, True)):
            if wish is not None:
                _file(self._by_cluster, wish.cluster, key, there)
                _file(self._open_by_user, wish.user, key, there and not wish.decided)
                if wish.user not in self._open_by_user:
                    self._admitted.pop(wish.user, None)
        self.queue.add(key)

    def _cluster_changed(self, name: str) -> None:
        if self.fleet.wishes.synced.is_set():
            for wish in self._of_cluster(name):
                if wish.decided != "Denied":
                    self.queue.add(wish.name)

    def _of_cluster(self, name: str) -> list[Wish]:
        found = (self.fleet.wishes.get(key) for key in self._by_cluster.get(name, ()))
        return sorted([each for each in found if each is not None], key=lambda each: (each.created, each.name))

    def waiting(self) -> list[Wish]:
        """The requests that wait for a person, oldest first."""
        return sorted((w for w in self.fleet.wishes.found.values() if not w.decided), key=lambda wish: wish.created)

    async def handle(self, name: str) -> float | None:
        """Decide on one request, or take note of what was decided."""
        wish = self.fleet.wishes.get(name)
        if wish is None:
            return None
        if not self.fleet.synced:
            return 1.0
        if not wish.decided and self._is_too_much(wish):
            await self._stop_flood(wish)
            return None
        cluster = self.fleet.get(wish.cluster)
        if wish.decided != "Denied" and cluster is not None and DEVICE_KEY in {*cluster.annotations, *wish.annotations}:
            await self._show(wish)
        if wish.decided == "Approved":
            await self._pin(wish)
        if wish.decided:
            return None
        verdict = judge(wish, cluster, self.allowed)
        if verdict.word == "approve" and verdict.reason == "AutoApproved" and not await self._may_renew(wish):
            verdict = Verdict("deny", "NotAllowed", "this user may not renew certificates")
        await self._carry_out(wish, verdict)
        return None

    async def _carry_out(self, wish: Wish, verdict: Verdict) -> None:
        if verdict.word == "approve":
            await decide(self.kube, wish.name, "Approved", verdict)
            self.granted[verdict.reason] += 1
            if verdict.accept:
                await self.kube.patch(CLUSTERS, wish.cluster, {"spec": {"hubAcceptsClient": True}})
            log.info("%s: request %s: %s: %s", wish.cluster, wish.name, verdict.reason, verdict.message)
        elif verdict.word == "deny":
            await decide(self.kube, wish.name, "Denied", verdict)
            await self._note_refusal(wish, verdict)

    async def _note_refusal(self, wish: Wish, verdict: Verdict) -> None:
        self.refused[verdict.reason] += 1
        log.warning("%s: request %s of %s: %s: %s", wish.cluster, wish.name, wish.user, verdict.reason, verdict.message)
        if self.fleet.get(wish.cluster) is not None:
            message = f"{wish.name} of {wish.user}: {verdict.message}"
            await write_condition(self.kube, wish.cluster, make_condition(REFUSED, "True", verdict.reason, message))

    # --- floods

    def _is_too_much(self, wish: Wish) -> bool:
        admitted = self._admitted.setdefault(wish.user, set())
        admitted &= self._open_by_user.get(wish.user, set())
        if wish.name in admitted or len(admitted) < MOST_REQUESTS:
            admitted.add(wish.name)
            return False
        return True

    async def _stop_flood(self, wish: Wish) -> None:
        await self.kube.delete(REQUESTS, wish.name)
        self._excess[wish.user] += 1
        verdict = Verdict("deny", "Flood", f"more than {MOST_REQUESTS} open requests")
        self.refused[verdict.reason] += 1
        if self._excess[wish.user] == 1:
            await self._note_refusal(wish, verdict)
            self.refused[verdict.reason] -= 1
        if self._excess[wish.user] % FLOOD_REQUESTS:
            return
        if wish.user.startswith(TOKEN_USER):
            if await revoke_user(self.kube, wish.user):
                log.warning("%s: its token is taken away: it goes on asking for certificates", wish.user)
        elif wish.cluster not in self._quarantined:
            self._quarantined[wish.cluster] = time.monotonic()
            await self.maker.make(make_cluster_role(wish.cluster, False, True))
            log.warning("%s: may not ask for certificates for an hour: it goes on and on", wish.cluster)

    def in_quarantine(self, cluster: str) -> bool:
        """Whether a cluster may not ask for certificates now."""
        since = self._quarantined.get(cluster)
        if since is not None and time.monotonic() - since > QUARANTINE_SECONDS:
            del self._quarantined[cluster]
            return False
        return since is not None

    # --- rights

    async def _show(self, wish: Wish) -> None:
        """Let the agent see its own requests, the newest few."""
        newest = self._of_cluster(wish.cluster)[-SHOWN_REQUESTS:]
        await self.maker.make(make_requests_role(wish.cluster, sorted(each.name for each in newest)))

    async def _may_renew(self, wish: Wish) -> bool:
        spec: Json = {"user": wish.user, "uid": wish.uid, "groups": list(wish.groups), "extra": wish.extra}
        spec["resourceAttributes"] = {
            "group": REGISTER_GROUP, "resource": "managedclusters", "subresource": "clientcertificates", "verb": "renew"
        }  # fmt: skip
        body = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.kind, "spec": spec}
        answer = await self.kube.create(REVIEWS, body)
        return bool(answer["status"].get("allowed"))

    async def _pin(self, wish: Wish) -> None:
        """Remember the key of the device that was let in; from now on the cluster is that device."""
        cluster = self.fleet.get(wish.cluster)
        claimed = wish.annotations.get(DEVICE_KEY)
        if cluster is None or not claimed or DEVICE_KEY in cluster.annotations or not _is_newcomer(wish):
            return
        if read_request(wish.request).key != claimed:
            return
        await pin_key(self.kube, cluster, claimed, wish.annotations.get(SERIAL, ""))
        log.info("%s: is the device with the key %s", cluster.name, claimed)


def _file(index: dict[str, set[str]], under: str, key: str, there: bool) -> None:
    """Keep an index of keys; what is empty goes."""
    if there:
        index.setdefault(under, set()).add(key)
    elif under in index:
        index[under].discard(key)
        if not index[under]:
            del index[under]


def _is_newcomer(wish: Wish) -> bool:
    return any(group == BOOTSTRAP_GROUP or group.startswith(f"{BOOTSTRAP_GROUP}:") for group in wish.groups)


async def pin_key(kube: Kube, cluster: Cluster, key: str, serial: str = "") -> None:
    """Write down which device a cluster is. Raises RefusedError."""
    annotations = {DEVICE_KEY: key, **({SERIAL: serial} if serial else {})}
    await kube.patch(CLUSTERS, cluster.name, {"metadata": {"annotations": annotations, "uid": cluster.uid}})


async def decide(kube: Kube, name: str, kind: str, verdict: Verdict) -> None:
    """Write `Approved` or `Denied` on a request. One that is decided or gone is left alone."""
    try:
        found = await kube.get(REQUESTS, name)
        conditions = found.setdefault("status", {}).setdefault("conditions", [])
        if any(each["type"] in ("Approved", "Denied") for each in conditions):
            return
        made = {"type": kind, "status": "True", "reason": verdict.reason, "message": verdict.message}
        conditions.append({**made, "lastUpdateTime": make_time()})
        await kube.replace(REQUESTS, found, sub="approval")
    except RefusedError as error:
        if error.status not in (404, 409):
            raise
