"""What the hub keeps in memory of each object: small, frozen, and equal when nothing that matters has changed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field

from cumulet.central.kube import Json
from cumulet.central.protocol import (
    ACCEPTED,
    AVAILABLE,
    CLUSTER_LABEL,
    CONTENT,
    DESCEND,
    DEVICE_KEY,
    HUB_CLAIM,
    JOINED,
    LEASE_SECONDS,
    OVER_BEIDOU,
    SERIAL,
    SET_LABEL,
    SKY,
    find_condition,
)
from cumulet.central.reports import find_reports
from cumulet.central.traces import read_trace

OUR_ANNOTATIONS = (DEVICE_KEY, SERIAL, SKY, "registration.open-cluster-management.io/skip-clock-sync-check")
Texts = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Cluster:
    """A ManagedCluster. `conditions` are kept whole, `accepted` is what the hub's administrator has decided."""

    name: str
    uid: str
    accepted: bool
    deleting: bool
    finalizers: tuple[str, ...]
    labels: Texts
    annotations: Texts
    claims: Texts
    capacity: Texts
    allocatable: Texts
    version: str
    conditions: tuple[Json, ...]
    lease_seconds: int
    taints: tuple[Json, ...] = ()

    def condition(self, kind: str) -> Json | None:
        """The condition of a type."""
        return find_condition(self.conditions, kind)

    def status(self, kind: str) -> str:
        """True, False, Unknown, or an empty text when there is no such condition."""
        return str((self.condition(kind) or {}).get("status", ""))

    @property
    def joined(self) -> bool:
        """Whether its agent has come with its own certificate."""
        return self.status(JOINED) == "True"

    @property
    def available(self) -> bool:
        """Whether it is in touch and well."""
        return self.status(AVAILABLE) == "True"

    @property
    def is_hub(self) -> bool:
        """Whether there are clusters below it."""
        return self.claims.get(HUB_CLAIM) == "true"

    @property
    def state(self) -> str:
        """One word for people: pending, accepted, ready, unwell, silent, beidou, refused, leaving.

        A cluster is `beidou` that would be silent if nothing came over it.
        """
        if self.deleting:
            return "leaving"
        if not self.accepted:
            return "refused" if self.status(ACCEPTED) == "False" else "pending"
        if not self.joined:
            return "accepted"
        silent = "beidou" if self.status(OVER_BEIDOU) == "True" else "silent"
        return {"True": "ready", "False": "unwell"}.get(self.status(AVAILABLE), silent)


def make_cluster(found: Json) -> Cluster:
    """What is kept of a ManagedCluster."""
    meta, spec, status = found["metadata"], found.get("spec") or {}, found.get("status") or {}
    annotations = meta.get("annotations") or {}
    return Cluster(
        name=meta["name"],
        uid=meta.get("uid", ""),
        accepted=bool(spec.get("hubAcceptsClient")),
        deleting="deletionTimestamp" in meta,
        finalizers=tuple(meta.get("finalizers") or ()),
        labels=_short(meta.get("labels") or {}),
        annotations={name: annotations[name] for name in OUR_ANNOTATIONS if name in annotations},
        claims=_short({each["name"]: each["value"] for each in status.get("clusterClaims") or ()}),
        capacity=_short(status.get("capacity") or {}),
        allocatable=_short(status.get("allocatable") or {}),
        version=sys.intern((status.get("version") or {}).get("kubernetes", "")),
        conditions=tuple(_short_condition(each) for each in status.get("conditions") or ()),
        lease_seconds=spec.get("leaseDurationSeconds") or LEASE_SECONDS,
        taints=tuple(spec.get("taints") or ()),
    )


@dataclass(frozen=True, slots=True)
class Made:
    """What is known of something that the hub has made: for which cluster, the digest of it, its version."""

    cluster: str
    content: str
    version: str


def make_made(found: Json) -> Made:
    """What is kept of the metadata of something made."""
    meta = found["metadata"]
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    return Made(labels.get(CLUSTER_LABEL, ""), annotations.get(CONTENT, ""), meta["resourceVersion"])


@dataclass(frozen=True, slots=True)
class Work:
    """A ManifestWork. `feedback` is the summary that came up from a hub below, if it is for one.

    `reports` is the text that says how the work's task is, at this cluster or at those below it.
    """

    cluster: str
    name: str
    content: str
    owner: str
    deleting: bool
    generation: int
    conditions: tuple[Json, ...] = ()
    feedback: Mapping[str, int] = field(default_factory=dict)
    uid: str = ""
    reports: str = ""
    trace: str = ""

    def holds(self, kind: str) -> bool:
        """Whether a condition is True for what the work says now."""
        found = find_condition(self.conditions, kind)
        if found is None or found["status"] != "True":
            return False
        return int(found.get("observedGeneration", self.generation)) >= self.generation


def make_work(found: Json) -> Work:
    """What is kept of a ManifestWork; its manifests are not."""
    meta, status = found["metadata"], found.get("status") or {}
    labels, annotations = meta.get("labels") or {}, meta.get("annotations") or {}
    feedback: dict[str, int] = {}
    if labels.get(DESCEND) == "true":
        for manifest in (status.get("resourceStatus") or {}).get("manifests") or ():
            if manifest["resourceMeta"].get("kind") == "ManifestWorkReplicaSet":
                values = (manifest.get("statusFeedback") or {}).get("values") or ()
                numbers = [each for each in values if "integer" in each["fieldValue"]]
                feedback = {each["name"]: int(each["fieldValue"]["integer"]) for each in numbers}
    return Work(
        cluster=sys.intern(meta["namespace"]),
        name=sys.intern(meta["name"]),
        content=sys.intern(annotations.get(CONTENT, "")),
        owner=sys.intern(labels.get(SET_LABEL, "")),
        deleting="deletionTimestamp" in meta,
        generation=meta.get("generation", 1),
        conditions=tuple(_short_condition(each) for each in status.get("conditions") or ()),
        feedback=feedback,
        uid=meta.get("uid", ""),
        reports=find_reports(status),
        trace=read_trace(found),
    )


@dataclass(frozen=True, slots=True)
class Wish:
    """A CertificateSigningRequest of a cluster. `decided`: Approved, Denied, Failed or an empty text."""

    name: str
    cluster: str
    user: str
    groups: tuple[str, ...]
    uid: str
    extra: Json
    request: str
    usages: tuple[str, ...]
    annotations: Texts
    created: str
    decided: str


def make_wish(found: Json) -> Wish | None:
    """What is kept of a request; nothing of one that is no cluster's."""
    meta, spec = found["metadata"], found["spec"]
    cluster = (meta.get("labels") or {}).get(CLUSTER_LABEL, "")
    if not cluster or "open-cluster-management.io/addon-name" in meta["labels"]:
        return None
    kinds = [each["type"] for each in (found.get("status") or {}).get("conditions") or ()]
    decided = next((kind for kind in ("Denied", "Failed", "Approved") if kind in kinds), "")
    annotations = meta.get("annotations") or {}
    return Wish(
        name=meta["name"],
        cluster=cluster,
        user=spec.get("username", ""),
        groups=tuple(spec.get("groups") or ()),
        uid=spec.get("uid", ""),
        extra=spec.get("extra") or {},
        # Of what is decided nobody asks for more; the server keeps it for an hour.
        request=spec["request"],
        usages=tuple(spec.get("usages") or ()),
        annotations={name: annotations[name] for name in (DEVICE_KEY, SERIAL) if name in annotations},
        created=meta["creationTimestamp"],
        decided=decided,
    )


def _short(found: Mapping[str, object]) -> dict[str, str]:
    return {sys.intern(name): sys.intern(str(value)) for name, value in found.items()}


def _short_condition(found: Json) -> Json:
    return {sys.intern(name): sys.intern(value) if isinstance(value, str) else value for name, value in found.items()}
