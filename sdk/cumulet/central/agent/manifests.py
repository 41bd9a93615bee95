"""The manifests of a work, taken apart and checked: pure functions.

What this agent does not do with a manifest is said for that manifest by name; the
others are applied.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cumulet.central.kube import Json, Resource

MOST_BYTES = 500 * 1024
FIRST = (
    "Namespace", "LimitRange", "ResourceQuota", "ServiceAccount", "Role", "RoleBinding", "ConfigMap", "Secret",
    "PersistentVolumeClaim", "Service", "Placement",
)  # fmt: skip
"""Kinds that others need, in the order in which they are applied; the rest follows as it is written."""
UPDATE, CREATE_ONLY, APPLY, READ_ONLY = "Update", "CreateOnly", "ServerSideApply", "ReadOnly"


@dataclass(frozen=True, slots=True)
class Manifest:
    """One manifest of a work: its place, what it is, or what is wrong with it."""

    ordinal: int
    body: Json
    wrong: str = ""

    @property
    def group(self) -> str:
        """The API group."""
        return self.version_words[0]

    @property
    def version(self) -> str:
        """The API version, without the group."""
        return self.version_words[1]

    @property
    def version_words(self) -> tuple[str, str]:
        """Group and version."""
        group, _, version = str(self.body.get("apiVersion") or "").rpartition("/")
        return group, version

    @property
    def kind(self) -> str:
        """The kind."""
        return str(self.body.get("kind") or "")

    @property
    def name(self) -> str:
        """The name."""
        return str((self.body.get("metadata") or {}).get("name") or "")

    @property
    def namespace(self) -> str:
        """The namespace, or an empty text."""
        return str((self.body.get("metadata") or {}).get("namespace") or "")


@dataclass(frozen=True, slots=True)
class Option:
    """How one manifest is to be handled."""

    strategy: str = UPDATE
    force: bool = True
    manager: str = "work-agent"
    rules: tuple[Json, ...] = ()
    conditions: tuple[Json, ...] = ()
    wrong: str = ""


def read_manifests(spec: Json, kinds: Collection[str]) -> list[Manifest]:
    """The manifests in the order in which they are applied. `kinds`: those that this agent applies."""
    found = (spec.get("workload") or {}).get("manifests") or []
    size = sum(len(json.dumps(each, separators=(",", ":"))) for each in found)
    whole = ""
    if size > MOST_BYTES:
        whole = f"the manifests are {size} bytes; {MOST_BYTES} are allowed"
    elif spec.get("executor"):
        whole = "executor is not supported by this agent"
    made = [Manifest(index, body, whole or find_wrong(body, kinds)) for index, body in enumerate(found)]
    seen: dict[tuple[str, str, str, str], int] = {}
    for place, each in enumerate(made):
        key = (each.group, each.kind, each.namespace, each.name)
        if not each.wrong and key in seen:
            made[place] = Manifest(each.ordinal, each.body, f"is there twice, first as number {seen[key]}")
        seen.setdefault(key, each.ordinal)
    return sorted(made, key=lambda each: FIRST.index(each.kind) if each.kind in FIRST else len(FIRST))


def find_wrong(body: object, kinds: Collection[str]) -> str:
    """What is wrong with a manifest by itself, or an empty text."""
    if not isinstance(body, dict) or not body.get("apiVersion") or not body.get("kind"):
        return "not an object with apiVersion and kind"
    meta = body.get("metadata")
    if not isinstance(meta, dict) or not isinstance(meta.get("name"), str) or not meta["name"]:
        return "metadata.name is missing"
    if meta.get("generateName"):
        return "metadata.generateName is not allowed in a work"
    group = str(body["apiVersion"]).rpartition("/")[0]
    kind = f"{group}/{body['kind']}" if group else str(body["kind"])
    return "" if kind in kinds else f"kind {kind} is not among those that this agent applies"


def find_option(spec: Json, resource: Resource, manifest: Manifest) -> Option:
    """How a manifest is to be handled, from the work's `manifestConfigs`."""
    for each in spec.get("manifestConfigs") or ():
        if not _is_meant(each["resourceIdentifier"], resource, manifest):
            continue
        strategy = each.get("updateStrategy") or {"type": UPDATE}
        applying = strategy.get("serverSideApply") or {}
        return Option(
            strategy=strategy["type"],
            force=strategy["type"] != APPLY or bool(applying.get("force")),
            manager=applying.get("fieldManager") or "work-agent",
            rules=tuple(each.get("feedbackRules") or ()),
            conditions=tuple(each.get("conditionRules") or ()),
            wrong="ignoreFields is not supported by this agent" if applying.get("ignoreFields") else "",
        )
    return Option()


def is_orphan(spec: Json, resource: Resource, manifest: Manifest) -> bool:
    """Whether an object stays when the work goes."""
    option = spec.get("deleteOption") or {}
    policy = option.get("propagationPolicy", "Foreground")
    rules = (option.get("selectivelyOrphans") or {}).get("orphaningRules") or ()
    return policy == "Orphan" or (
        policy == "SelectivelyOrphan" and any(_is_meant(each, resource, manifest) for each in rules)
    )


def _is_meant(identifier: Mapping[str, str], resource: Resource, manifest: Manifest) -> bool:
    wanted = [identifier.get(name) or "" for name in ("group", "resource", "namespace", "name")]
    return wanted == [resource.group, resource.plural, manifest.namespace, manifest.name]


def make_body(manifest: Manifest, owner: Json | None) -> Json:
    """What is sent to the API server: without what only it decides, with the owner that it goes with."""
    meta = {
        name: value
        for name, value in manifest.body["metadata"].items()
        if name not in ("uid", "resourceVersion", "creationTimestamp", "generation", "managedFields", "selfLink")
    }
    if owner is not None:
        meta["ownerReferences"] = [*meta.get("ownerReferences", []), owner]
    return {**{name: value for name, value in manifest.body.items() if name != "status"}, "metadata": meta}


def make_meta(manifest: Manifest, resource: Resource | None) -> Json:
    """The `resourceMeta` that goes back to the hub."""
    return {
        "ordinal": manifest.ordinal,
        "group": manifest.group,
        "version": manifest.version,
        "kind": manifest.kind,
        "resource": resource.plural if resource is not None else "",
        "namespace": manifest.namespace,
        "name": manifest.name,
    }
