"""What a work for many clusters is for one of them: pure functions.

For a cluster it is a ManifestWork with the template. For a hub below it is a
ManifestWork that carries placement and replica set, so that the hub there does the
same with its own clusters; its summary comes back as feedback.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from cumulet.central.hub.records import Cluster, Work
from cumulet.central.kube import Json
from cumulet.central.protocol import (
    CONTENT,
    DESCEND,
    NAMESPACES,
    PLACEMENT_NAME_LABEL,
    PLACEMENTS,
    REPLICA_SETS,
    SET_LABEL,
    TASKS,
)
from cumulet.central.reports import merge_reports
from cumulet.core.files import sha256_text

MOST_BYTES = 500 * 1024
"""Of the manifests of a work, as Open Cluster Management has it."""
COUNTS = ("total", "applied", "available", "degraded", "progressing")


@dataclass(frozen=True, slots=True)
class Summary:
    """How many clusters a work is meant for, and how it is there."""

    total: int = 0
    applied: int = 0
    available: int = 0
    degraded: int = 0
    progressing: int = 0
    desired: int = 0

    def as_status(self) -> Json:
        """As it stands in the status of a replica set."""
        counts = {name: getattr(self, name) for name in COUNTS}
        return {**counts, "desiredTotal": self.desired, "updated": self.total}


def get_owner(found: Json) -> str:
    """The label value that the works of a replica set bear."""
    meta = found["metadata"]
    text = f"{meta['namespace']}.{meta['name']}"
    return text if len(text) <= 63 else f"{text[:46]}.{sha256_text(text)[:16]}"


def descends(found: Json) -> bool:
    """Whether a replica set goes on to the hubs below."""
    return (found["metadata"].get("labels") or {}).get(DESCEND) == "true"


def measure(spec: Json) -> int:
    """Bytes of the manifests of a work."""
    manifests = (spec.get("workload") or {}).get("manifests") or ()
    return sum(len(json.dumps(each, separators=(",", ":"))) for each in manifests)


def make_work_body(replicas: Json, placements: Iterable[Json], cluster: Cluster) -> Json:
    """The ManifestWork of a replica set for one cluster, with the digest of its content."""
    meta = replicas["metadata"]
    below = cluster.is_hub and descends(replicas)
    spec = make_descent(replicas, placements) if below else replicas["spec"]["manifestWorkTemplate"]
    first = replicas["spec"]["placementRefs"][0]["name"]
    labels = {SET_LABEL: get_owner(replicas), PLACEMENT_NAME_LABEL: first[:63]}
    labels |= {DESCEND: "true"} if below else {}
    digest = sha256_text(json.dumps([spec, labels], sort_keys=True))[:16]
    head = {"name": meta["name"], "namespace": cluster.name, "labels": labels, "annotations": {CONTENT: digest}}
    return {"metadata": head, "spec": spec}


def make_descent(replicas: Json, placements: Iterable[Json]) -> Json:
    """The spec of a work that carries placement and replica set to a hub below."""
    meta = replicas["metadata"]
    place = {"name": meta["name"], "namespace": meta["namespace"]}
    manifests = [make_manifest(NAMESPACES.api_version, NAMESPACES.kind, {"name": meta["namespace"]}, None)]
    for each in placements:
        annotations = each["metadata"].get("annotations") or {}
        kept = {name: value for name, value in annotations.items() if name.startswith("cumulet.io/")}
        head = {**place, "name": each["metadata"]["name"], "labels": {DESCEND: "true"}}
        head |= {"annotations": kept} if kept else {}
        manifests.append(make_manifest(PLACEMENTS.api_version, PLACEMENTS.kind, head, each["spec"]))
    head = {**place, "labels": {DESCEND: "true"}}
    manifests.append(make_manifest(REPLICA_SETS.api_version, REPLICA_SETS.kind, head, replicas["spec"]))
    identifier = {"group": REPLICA_SETS.group, "resource": REPLICA_SETS.plural, **place}
    paths = [{"name": name, "path": f".status.summary.{name}"} for name in COUNTS]
    paths.append({"name": "reports", "path": ".status.reports"})
    rule = {"type": "JSONPaths", "jsonPaths": paths}
    namespace = {"group": "", "resource": "namespaces", "name": meta["namespace"], "namespace": ""}
    return {
        "workload": {"manifests": manifests},
        # Others may have put their things into this namespace.
        "deleteOption": {
            "propagationPolicy": "SelectivelyOrphan",
            "selectivelyOrphans": {"orphaningRules": [namespace]},
        },
        "manifestConfigs": [{"resourceIdentifier": identifier, "feedbackRules": [rule]}],
    }


def make_manifest(version: str, kind: str, meta: Json, spec: Json | None) -> Json:
    """A manifest."""
    return {"apiVersion": version, "kind": kind, "metadata": meta, **({"spec": spec} if spec is not None else {})}


def summarize(works: Iterable[Work], desired: int) -> Summary:
    """The summary over the works of a replica set; one that went to a hub counts with what came back."""
    counts = dict.fromkeys(COUNTS, 0)
    for work in works:
        if work.deleting:
            continue
        if work.feedback:
            for name in COUNTS:
                counts[name] += work.feedback.get(name, 0)
            continue
        applied, available = work.holds("Applied"), work.holds("Available")
        counts["total"] += 1
        counts["applied"] += applied
        counts["available"] += applied and available
        counts["degraded"] += work.holds("Degraded")
        counts["progressing"] += not (applied and available)
    return Summary(**counts, desired=desired)


def collect_reports(replicas: Json, works: Iterable[Work], silent: Collection[str]) -> str:
    """How the task of a replica set is at every cluster, those below other hubs too; empty if it has none.

    `silent` are the clusters that are out of touch: what they last said is old.
    """
    manifests = (replicas["spec"]["manifestWorkTemplate"].get("workload") or {}).get("manifests") or ()
    if not any(each.get("kind") == TASKS.kind and each.get("apiVersion") == TASKS.api_version for each in manifests):
        return ""
    told = {work.cluster: work.reports for work in works if not work.deleting}
    # A hub below which has answered that nobody there is meant has nothing to tell.
    empty = {work.cluster for work in works if work.feedback and not work.feedback.get("total") and not work.reports}
    parts = {cluster: text for cluster, text in told.items() if cluster not in empty}
    return merge_reports(parts, silent)
