"""What the hub knows: every kind of object that it watches, in one place, and who is told of changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cumulet.central.hub.records import Cluster, Made, Wish, Work, make_cluster, make_made, make_wish, make_work
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, Resource
from cumulet.central.protocol import (
    CLUSTER_BINDINGS,
    CLUSTER_LABEL,
    CLUSTER_ROLES,
    CLUSTERS,
    DECISIONS,
    LEASE,
    LEASES,
    NAMESPACES,
    PLACEMENTS,
    PULSE,
    REPLICA_SETS,
    REQUESTS,
    ROLE_BINDINGS,
    SIGNER,
    WORKS,
)
from cumulet.central.pulse import MOST_BYTES

MADE = (NAMESPACES, CLUSTER_ROLES, CLUSTER_BINDINGS, ROLE_BINDINGS)
Told = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Lease:
    """Of a lease, the time of its last renewal, empty if it never was; and what its cluster says of its tasks."""

    renewed: str
    pulse: str = ""


def keep_lease(found: Json) -> Lease:
    """What is kept of a lease. Of a text that is too long only so much that it is seen to be."""
    notes = found["metadata"].get("annotations") or {}
    return Lease(str((found.get("spec") or {}).get("renewTime") or ""), str(notes.get(PULSE, ""))[: MOST_BYTES + 1])


def keep_all(found: Json) -> Json:
    """The object without the book-keeping of server-side apply."""
    found["metadata"].pop("managedFields", None)
    return found


class Fleet:
    """Informers on everything. `on_cluster` and its like are lists of functions that are called with a key."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self.on_cluster: list[Told] = []
        self.on_made: list[Told] = []
        self.on_wish: list[Callable[[str, Wish | None, Wish | None], None]] = []
        self.on_lease: list[Callable[[str, str], None]] = []
        self.on_work: list[Callable[[Work], None]] = []
        self.on_placement: list[Told] = []
        self.on_decision: list[Callable[[Json], None]] = []
        self.on_set: list[Told] = []
        self.clusters: Informer[Cluster] = Informer(kube, Query(CLUSTERS), make_cluster, self._cluster)
        self.wishes: Informer[Wish] = Informer(
            kube, Query(REQUESTS, fields=f"spec.signerName={SIGNER}"), make_wish, self._wish
        )
        self.leases: Informer[Lease] = Informer(
            kube,
            Query(LEASES, fields=f"metadata.name={LEASE}"),
            keep_lease,
            self._lease,
            names=lambda found: str(found["metadata"]["namespace"]),
        )
        self.works: Informer[Work] = Informer(kube, Query(WORKS), make_work, self._work)
        self.placements: Informer[Json] = Informer(kube, Query(PLACEMENTS), keep_all, self._placement)
        self.decisions: Informer[Json] = Informer(kube, Query(DECISIONS), keep_all, self._decision)
        self.sets: Informer[Json] = Informer(kube, Query(REPLICA_SETS), keep_all, self._set)
        self.made: Mapping[Resource, Informer[Made]] = {
            resource: Informer(kube, Query(resource, labels=CLUSTER_LABEL, partial=True), make_made, self._made)
            for resource in MADE
        }

    @property
    def informers(self) -> list[Informer[object]]:
        """All of them."""
        several = (self.clusters, self.wishes, self.leases, self.works, self.placements, self.decisions, self.sets)
        return [*several, *self.made.values()]  # type: ignore[list-item]  # what each keeps is no matter here

    @property
    def synced(self) -> bool:
        """Whether everything has been listed once."""
        return all(each.synced.is_set() for each in self.informers)

    async def wait(self) -> None:
        """Until everything has been listed once."""
        for each in self.informers:
            await each.synced.wait()

    def start(self, group: asyncio.TaskGroup) -> None:
        """Follow everything."""
        for each in self.informers:
            group.create_task(each.run())

    def get(self, name: str) -> Cluster | None:
        """A cluster."""
        return self.clusters.get(name)

    def all(self) -> Iterable[Cluster]:
        """All clusters."""
        return self.clusters.found.values()

    def works_of(self, owner: str) -> list[Work]:
        """The works of a replica set (`namespace.name`)."""
        return [work for work in self.works.found.values() if work.owner == owner]

    def _cluster(self, key: str, old: Cluster | None, new: Cluster | None) -> None:
        _tell(self.on_cluster, key)

    def _wish(self, key: str, old: Wish | None, new: Wish | None) -> None:
        for each in self.on_wish:
            each(key, old, new)

    def _lease(self, key: str, old: Lease | None, new: Lease | None) -> None:
        before, now = (each.renewed if each is not None else "" for each in (old, new))
        if old is None or before != now:  # what else is written into a lease is no sign of life
            for each in self.on_lease:
                each(key, now)

    def _work(self, key: str, old: Work | None, new: Work | None) -> None:
        found = new or old
        for each in self.on_work if found else ():
            assert found is not None  # noqa: S101 - one of the two is there
            each(found)

    def _placement(self, key: str, old: Json | None, new: Json | None) -> None:
        _tell(self.on_placement, key)

    def _decision(self, key: str, old: Json | None, new: Json | None) -> None:
        for each in self.on_decision:
            each(new or old or {})

    def _set(self, key: str, old: Json | None, new: Json | None) -> None:
        _tell(self.on_set, key)

    def _made(self, key: str, old: Made | None, new: Made | None) -> None:
        cluster = (new or old or Made("", "", "")).cluster
        if cluster:
            _tell(self.on_made, cluster)


def _tell(listeners: Iterable[Told], key: str) -> None:
    for each in listeners:
        each(key)
