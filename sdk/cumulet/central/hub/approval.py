"""What a person decides: which clusters may be under this hub, and which requests are theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.central.hub.judge import Verdict, judge, read_request
from cumulet.central.hub.records import Cluster, Wish, make_cluster, make_wish
from cumulet.central.hub.requests import decide, pin_key
from cumulet.central.kube import Kube, Query
from cumulet.central.protocol import CLUSTER_LABEL, CLUSTERS, DEVICE_KEY, REQUESTS, SERIAL
from cumulet.core.errors import TargetError, UsageError

BY_HAND = Verdict("approve", "ApprovedByHand", "approved with cumulet hub approve")


@dataclass(frozen=True, slots=True)
class Candidate:
    """A cluster that wants in: its open requests, and what a person should compare."""

    cluster: Cluster
    wishes: tuple[Wish, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The fingerprints of the keys that ask."""
        return tuple(sorted({read_request(each.request).key for each in self.wishes}))

    @property
    def serials(self) -> tuple[str, ...]:
        """The serial numbers that they give."""
        return tuple(sorted({each.annotations[SERIAL] for each in self.wishes if SERIAL in each.annotations}))


async def find_candidate(kube: Kube, name: str) -> Candidate:
    """A cluster with its open requests. Raises UsageError if there is no such cluster."""
    found = await kube.find(CLUSTERS, name)
    if found is None:
        raise UsageError(f"{name}: no such cluster at this hub", hint="cumulet hub clusters")
    requests = await kube.collect(Query(REQUESTS, labels=f"{CLUSTER_LABEL}={name}"))
    wishes = [wish for each in requests if (wish := make_wish(each)) is not None and not wish.decided]
    return Candidate(make_cluster(found), tuple(sorted(wishes, key=lambda each: each.created)))


async def approve(kube: Kube, candidate: Candidate, *, new_key: bool = False) -> list[str]:
    """Accept a cluster and grant its open requests; gives back their names.

    Only what a person may decide is granted: a request with a wrong name stays
    refused. `new_key`: the cluster has got another device. Raises TargetError.
    """
    cluster = candidate.cluster
    keys = candidate.keys
    if new_key and len(keys) == 1:
        await pin_key(kube, cluster, keys[0])
        cluster = (await find_candidate(kube, cluster.name)).cluster
    wrong = [find_wrong(each, cluster) for each in candidate.wishes]
    if candidate.wishes and all(wrong):
        hint = f"cumulet hub approve --new-key {cluster.name}" if DEVICE_KEY in cluster.annotations else ""
        raise TargetError(f"{cluster.name}: {wrong[0]}", hint=hint)
    if len(keys) > 1 and DEVICE_KEY not in cluster.annotations:
        raise TargetError(
            f"{cluster.name}: {len(keys)} different keys ask in this name: {', '.join(keys)}",
            hint="find out which is yours, and take the other's token away: cumulet hub revoke",
        )
    granted = [each.name for each, problem in zip(candidate.wishes, wrong, strict=True) if not problem]
    for name in granted:
        await decide(kube, name, "Approved", BY_HAND)
    await accept(kube, cluster.name, True)
    return granted


def find_wrong(wish: Wish, cluster: Cluster) -> str:
    """Why a person cannot grant a request, or an empty text."""
    verdict = judge(wish, cluster)
    return verdict.message if verdict.word == "deny" else ""


async def accept(kube: Kube, name: str, accepted: bool) -> None:
    """Set whether a cluster may be under this hub. Raises RefusedError."""
    await kube.patch(CLUSTERS, name, {"spec": {"hubAcceptsClient": accepted}})


async def list_clusters(kube: Kube) -> Sequence[Cluster]:
    """All clusters, by name."""
    return sorted([make_cluster(each) for each in await kube.collect(Query(CLUSTERS))], key=lambda each: each.name)


async def remove(kube: Kube, name: str) -> None:
    """Take a cluster out. Its works go first; the hub's controllers do that. Raises UsageError."""
    if not await kube.delete(CLUSTERS, name):
        raise UsageError(f"{name}: no such cluster at this hub", hint="cumulet hub clusters")
