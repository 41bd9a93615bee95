"""The controller of clusters: what each needs at the hub comes with its acceptance and goes with it."""

from __future__ import annotations

import logging

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.maker import Maker
from cumulet.central.hub.records import Cluster
from cumulet.central.hub.roles import (
    get_newcomer_name,
    get_requests_name,
    get_role_name,
    make_cluster_role,
    make_lease,
    make_namespace,
    make_namespace_roles,
)
from cumulet.central.hub.tokens import narrow_tokens, revoke_cluster
from cumulet.central.kube import Json, Kube, RefusedError
from cumulet.central.protocol import (
    ACCEPTED,
    CLUSTER_BINDINGS,
    CLUSTER_FINALIZER,
    CLUSTER_LABEL,
    CLUSTER_ROLES,
    CLUSTERS,
    DEVICE_KEY,
    HUB_OWNER,
    LEASE,
    LEASES,
    NAMESPACES,
    ROLE_BINDINGS,
    WORK_FINALIZER,
    WORKS,
    make_condition,
    same_condition,
)
from cumulet.central.workqueue import WorkQueue

AGAIN_SECONDS = 5.0
log = logging.getLogger("cumulet.hub")


class Clusters:
    """Looks at one cluster after the other."""

    def __init__(self, fleet: Fleet, maker: Maker) -> None:
        self.fleet, self.maker = fleet, maker
        self.kube: Kube = fleet.kube
        self.queue = WorkQueue("clusters", self.handle, workers=16)
        self._narrowed: set[str] = set()
        fleet.on_cluster.append(self.queue.add)
        fleet.on_made.append(self._made)

    def _made(self, name: str) -> None:
        if self.fleet.clusters.synced.is_set():
            self.queue.add(name)

    async def handle(self, name: str) -> float | None:
        """Bring everything of a cluster to what it should be."""
        cluster = self.fleet.get(name)
        if cluster is None or not self.fleet.synced:
            return None if cluster is None else 1.0
        if cluster.deleting:
            return await self._remove(cluster)
        if cluster.accepted:
            return await self._accept(cluster)
        if cluster.status(ACCEPTED) == "True":
            await self._refuse(cluster)
        return None

    async def _accept(self, cluster: Cluster) -> float | None:
        if not await self._own_namespace(cluster):
            return None
        if CLUSTER_FINALIZER not in cluster.finalizers:
            await self._set_finalizers(cluster, [*cluster.finalizers, CLUSTER_FINALIZER])
        strict = DEVICE_KEY in cluster.annotations
        await self.maker.make([make_namespace(cluster.name)])
        await self.maker.make([*make_cluster_role(cluster.name, True, strict), *make_namespace_roles(cluster.name)])
        if self.fleet.leases.get(cluster.name) is None:
            await self._make_lease(cluster.name)
        await self.set_condition(
            cluster, ACCEPTED, "True", ("HubClusterAdminAccepted", "Accepted by hub cluster admin")
        )
        if cluster.joined and strict and cluster.name not in self._narrowed:
            count = await narrow_tokens(self.kube, cluster.name)
            self._narrowed.add(cluster.name)
            if count:
                log.info("%s: has joined; its token is good for its return only", cluster.name)
        return None

    async def _own_namespace(self, cluster: Cluster) -> bool:
        """Whether the namespace is the cluster's, or free. One that others use is not taken over."""
        if self.fleet.made[NAMESPACES].get(cluster.name) is not None:
            return True
        found = await self.kube.find(NAMESPACES, cluster.name)
        if found is None or (found["metadata"].get("labels") or {}).get(CLUSTER_LABEL) == cluster.name:
            return True
        message = f"the namespace {cluster.name} is there already and not this cluster's"
        await self.set_condition(cluster, ACCEPTED, "False", ("NamespaceTaken", message))
        return False

    async def _make_lease(self, name: str) -> None:
        resource, body = make_lease(name)
        try:
            await self.kube.create(resource, body, name)
        except RefusedError as error:
            if error.status != 409:
                raise

    async def _refuse(self, cluster: Cluster) -> None:
        """The administrator does not want this cluster any more: its agent may look at it, and that is all."""
        await self.maker.make(make_cluster_role(cluster.name, False, True))
        await self._remove_bindings(cluster.name)
        await revoke_cluster(self.kube, cluster.name)
        await self.set_condition(cluster, ACCEPTED, "False", ("HubClusterAdminDenied", "Denied by hub cluster admin"))
        log.info("%s: is not accepted any more", cluster.name)

    async def _remove_bindings(self, name: str) -> None:
        role = get_role_name(name)
        for kind in ("registration", "work"):
            binding = f"{role}:{kind}"
            if self.fleet.made[ROLE_BINDINGS].get(f"{name}/{binding}") is not None:
                await self.kube.patch(ROLE_BINDINGS, binding, {"metadata": {"finalizers": None}}, name)
                await self.maker.remove(ROLE_BINDINGS, binding, name)

    async def _remove(self, cluster: Cluster) -> float | None:
        """Take everything away. The agent gets time to clear up after its works if it is there to do so."""
        works = [work for work in self.fleet.works.found.values() if work.cluster == cluster.name]
        for work in works:
            if not work.deleting:
                await self.kube.delete(WORKS, work.name, cluster.name)
            elif not (cluster.available and cluster.accepted):
                await self._free_work(work.name, cluster.name)
        if works:
            return AGAIN_SECONDS
        await self._remove_bindings(cluster.name)
        for role in (get_role_name, get_requests_name, get_newcomer_name):
            names = [role(cluster.name)] if role is not get_newcomer_name else _both(role(cluster.name))
            for name in names:
                await self.maker.remove(CLUSTER_BINDINGS, name)
                await self.maker.remove(CLUSTER_ROLES, name)
        await revoke_cluster(self.kube, cluster.name)
        await self.kube.delete(LEASES, LEASE, cluster.name)
        if self.fleet.made[NAMESPACES].get(cluster.name) is not None:
            await self.maker.remove(NAMESPACES, cluster.name)
        self._narrowed.discard(cluster.name)
        await self._set_finalizers(cluster, [each for each in cluster.finalizers if each != CLUSTER_FINALIZER])
        log.info("%s: is gone", cluster.name)
        return None

    async def _free_work(self, name: str, namespace: str) -> None:
        found = await self.kube.find(WORKS, name, namespace)
        kept = [each for each in (found or {}).get("metadata", {}).get("finalizers") or [] if each != WORK_FINALIZER]
        if found is not None:
            await self.kube.patch(WORKS, name, {"metadata": {"finalizers": kept or None}}, namespace)

    async def _set_finalizers(self, cluster: Cluster, names: list[str]) -> None:
        try:
            await self.kube.patch(
                CLUSTERS, cluster.name, {"metadata": {"finalizers": names or None, "uid": cluster.uid}}
            )
        except RefusedError as error:
            if error.status not in (404, 409):
                raise

    async def set_condition(self, cluster: Cluster, kind: str, status: str, why: tuple[str, str]) -> None:
        """Set one condition, if it is not so already. `why`: reason and message."""
        made = make_condition(kind, status, *why, before=cluster.conditions)
        if not same_condition(cluster.condition(kind), made):
            await write_condition(self.kube, cluster.name, made)


async def write_condition(kube: Kube, name: str, condition: Json) -> None:
    """Write one condition of a cluster; the others stay as they are. A cluster that is gone is no error."""
    owner = f"{HUB_OWNER}-{condition['type'].lower()}"
    body = {"metadata": {"name": name}, "status": {"conditions": [condition]}}
    try:
        await kube.apply(CLUSTERS, body, owner=owner, sub="status")
    except RefusedError as error:
        if error.status != 404:
            raise


def _both(name: str) -> list[str]:
    return [name, f"{name}:return"]
