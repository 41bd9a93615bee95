"""Applies manifests to our own cluster and takes away what is not wanted any more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cumulet.central.agent.manifests import CREATE_ONLY, READ_ONLY, Manifest, Option, find_option, is_orphan, make_body
from cumulet.central.kube import Json, Kube, RefusedError, Resource
from cumulet.central.protocol import APPLIED_WORKS


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a manifest: the object's uid, or what was wrong. `owned`: it goes with the work."""

    manifest: Manifest
    resource: Resource | None
    option: Option
    uid: str = ""
    wrong: str = ""
    owned: bool = False


class Applier:
    """Knows which kinds the cluster serves, and writes to it."""

    def __init__(self, kube: Kube) -> None:
        self.kube = kube
        self._kinds: dict[tuple[str, str, str], Resource] = {}

    async def find_resource(self, manifest: Manifest) -> Resource | None:
        """The resource of a manifest, or None if the cluster does not serve it."""
        key = (manifest.group, manifest.version, manifest.kind)
        if key not in self._kinds:
            path = f"/apis/{key[0]}/{key[1]}" if key[0] else f"/api/{key[1]}"
            try:
                found = await self.kube.call("GET", path)
            except RefusedError as error:
                if error.status != 404:
                    raise
                return None
            for each in found["resources"]:
                if "/" not in each["name"]:
                    made = Resource(key[0], key[1], each["name"], each["kind"], each["namespaced"])
                    self._kinds[key[0], key[1], each["kind"]] = made
        return self._kinds.get(key)

    async def apply(self, manifest: Manifest, spec: Json, owner: Json) -> Outcome:
        """Apply one manifest of a work. Raises UnreachableError; everything else is in the outcome."""
        if manifest.wrong:
            return Outcome(manifest, None, Option(), wrong=manifest.wrong)
        resource = await self.find_resource(manifest)
        if resource is None:
            text = f"this cluster has no kind {manifest.body['apiVersion']} {manifest.kind}"
            return Outcome(manifest, None, Option(), wrong=text)
        option = find_option(spec, resource, manifest)
        if resource.namespaced != bool(manifest.namespace):
            text = "metadata.namespace is missing" if resource.namespaced else f"{manifest.kind} has no namespace"
            return Outcome(manifest, resource, option, wrong=text)
        if option.wrong:
            return Outcome(manifest, resource, option, wrong=option.wrong)
        owned = not is_orphan(spec, resource, manifest) and option.strategy != READ_ONLY
        body = make_body(manifest, owner if owned else None)
        try:
            found = await self._write(resource, body, option)
        except RefusedError as error:
            return Outcome(manifest, resource, option, wrong=error.message, owned=owned)
        if option.strategy == CREATE_ONLY:
            # What was there before is not taken away with the work.
            references = found["metadata"].get("ownerReferences") or ()
            owned = owned and any(each["uid"] == owner["uid"] for each in references)
        return Outcome(manifest, resource, option, uid=found["metadata"]["uid"], owned=owned)

    async def _write(self, resource: Resource, body: Json, option: Option) -> Json:
        name, namespace = body["metadata"]["name"], body["metadata"].get("namespace", "")
        if option.strategy in (CREATE_ONLY, READ_ONLY):
            found = await self.kube.find(resource, name, namespace)
            if found is not None or option.strategy == READ_ONLY:
                return found or await self.kube.get(resource, name, namespace)
            return await self.kube.create(resource, body, namespace)
        return await self.kube.apply(resource, body, owner=option.manager, force=option.force)

    async def read(self, outcome: Outcome) -> Json | None:
        """The object of a manifest as it is now, or None."""
        if outcome.resource is None:
            return None
        return await self.kube.find(outcome.resource, outcome.manifest.name, outcome.manifest.namespace)

    async def remove(self, applied: Json, owner: str) -> bool:
        """Take one applied resource away if it is still ours alone. Whether it is gone."""
        resource = Resource(
            applied.get("group", ""), applied["version"], applied["resource"], "", bool(applied.get("namespace"))
        )
        name, namespace, uid = applied["name"], applied.get("namespace", ""), applied.get("uid", "")
        found = await self.kube.find(resource, name, namespace)
        if found is None or found["metadata"]["uid"] != uid:
            return True
        references = found["metadata"].get("ownerReferences") or []
        others = [each for each in references if each["uid"] != owner]
        if any(each["kind"] == APPLIED_WORKS.kind for each in others):
            version = found["metadata"]["resourceVersion"]
            change = {"metadata": {"ownerReferences": others, "resourceVersion": version}}
            await self.kube.patch(resource, name, change, namespace)
            return True
        if "deletionTimestamp" not in found["metadata"]:
            await self.kube.delete(resource, name, namespace, uid=uid, how="Background")
        return await self.kube.find(resource, name, namespace) is None


def make_applied(outcomes: Sequence[Outcome]) -> list[Json]:
    """What is remembered of applied manifests, in a fixed order."""
    found = [
        {
            "group": each.resource.group,
            "version": each.resource.version,
            "resource": each.resource.plural,
            "namespace": each.manifest.namespace,
            "name": each.manifest.name,
            "uid": each.uid,
        }
        for each in outcomes
        if each.resource is not None and each.uid and each.owned
    ]
    return sorted(found, key=lambda each: tuple(each.values()))


def find_stale(before: Sequence[Json], now: Sequence[Json]) -> list[Json]:
    """What was applied before and is not any more."""
    kept = {(each["group"], each["resource"], each["namespace"], each["name"]) for each in now}
    return [
        each
        for each in before
        if (each.get("group", ""), each["resource"], each.get("namespace", ""), each["name"]) not in kept
    ]
