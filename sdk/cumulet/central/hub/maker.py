"""Brings what the hub makes to what it should be: writes what is missing, differs, or was touched by others."""

from __future__ import annotations

from collections.abc import Iterable

from cumulet.central.hub.fleet import Fleet
from cumulet.central.hub.install import Made
from cumulet.central.informer import make_key
from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import CONTENT, HUB_OWNER, NAMESPACES


class Maker:
    """Remembers which version of each object is its own, so that nothing is written for nothing."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.writes = 0
        self._own: dict[tuple[str, str], str] = {}

    async def make(self, wanted: Iterable[Made]) -> None:
        """Write what is not as it should be. Raises RefusedError, UnreachableError."""
        for resource, body in wanted:
            if not self._is_right(resource, body):
                written = await self.fleet.kube.apply(resource, body, owner=HUB_OWNER)
                self.writes += 1
                self._own[resource.plural, make_key(body)] = written["metadata"]["resourceVersion"]

    async def remove(self, resource: Resource, name: str, namespace: str = "") -> bool:
        """Delete something; whether it was there."""
        key = f"{namespace}/{name}" if namespace else name
        self._own.pop((resource.plural, key), None)
        return await self.fleet.kube.delete(resource, name, namespace)

    def _is_right(self, resource: Resource, body: Json) -> bool:
        key = make_key(body)
        known = self.fleet.made[resource].get(key)
        if known is None or known.content != body["metadata"]["annotations"][CONTENT]:
            return False
        if resource == NAMESPACES:
            return True  # others write its status, and there is nothing in it to touch
        # At a start there is nothing remembered: what bears the right digest is trusted.
        return self._own.setdefault((resource.plural, key), known.version) == known.version
