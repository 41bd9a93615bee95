"""What the page shows, from what the hub has in memory. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from cumulet.central.hub.judge import read_request
from cumulet.central.hub.records import Cluster, Wish
from cumulet.central.hub.sky import read_sky
from cumulet.central.hub.sums import count_below
from cumulet.central.kube import Json
from cumulet.central.protocol import AVAILABLE, AVAILABLE_CLAIM, BELOW_CLAIM, SERIAL, TIER_CLAIM, TIERS, VALUES_CLAIM
from cumulet.core.errors import CumuletError
from cumulet.core.quantities import parse_quantity

MOST_SHOWN = 300
# What needs somebody comes first.
ORDER = ("unwell", "silent", "beidou", "pending", "accepted", "refused", "leaving", "ready")


def get_tier(cluster: Cluster) -> str:
    """The tier that a cluster says it is in; one that says nothing is an edge."""
    tier = cluster.claims.get("tier") or cluster.claims.get(TIER_CLAIM) or "edge"
    return tier if tier in TIERS else "edge"


@dataclass(frozen=True, slots=True)
class Heard:
    """What the hub has heard of a cluster: seconds since its lease was renewed, and what it has said of its tasks."""

    silence: float | None = None
    pulse: Json | None = None


def make_row(cluster: Cluster, heard: Heard) -> Json:
    """One cluster."""
    silence = heard.silence
    condition = cluster.condition(AVAILABLE) or {}
    return {
        "name": cluster.name,
        "state": cluster.state,
        "since": condition.get("lastTransitionTime", ""),
        "message": condition.get("message", "") if cluster.state in ("unwell", "silent", "beidou") else "",
        "version": cluster.version,
        "silence": None if silence is None else round(silence),
        "cpu": make_share(cluster, "cpu"),
        "memory": make_share(cluster, "memory"),
        "below": count_below(cluster, BELOW_CLAIM) if cluster.is_hub else 0,
        "available": count_below(cluster, AVAILABLE_CLAIM) if cluster.is_hub else 0,
        "claims": {name: text for name, text in sorted(cluster.claims.items()) if not name.startswith(VALUES_CLAIM)},
        "labels": dict(sorted(cluster.labels.items())),
        "pulse": heard.pulse,
        "sky": make_sky(cluster),
    }


def make_sky(cluster: Cluster) -> Json | None:
    """What a cluster says over Beidou, if that is how it is heard of."""
    word = read_sky(cluster) if cluster.state == "beidou" else None
    if word is None:
        return None
    status = word["status"]
    numbers = {name: _whole(status.get(name)) for name in ("ready", "nodes", "cpu", "spool_entries", "age", "time")}
    alarms, place = status.get("alarms"), status.get("position")
    known = isinstance(place, list) and all(isinstance(each, int | float) and abs(each) <= 180 for each in place)
    return {
        "time": word["received"],
        "behind": max(0, word["received"] - numbers["time"]) if numbers["time"] else 0,
        "nodes": [numbers["ready"], numbers["nodes"]],
        "cpu": numbers["cpu"],
        "alarms": [str(each)[:20] for each in alarms[:16]] if isinstance(alarms, list) else [],
        "note": str(status.get("note", ""))[:40],
        "position": place[:2] if known else None,
        "waiting": numbers["spool_entries"],
        "oldest": numbers["age"],
    }


def _whole(value: object) -> int:
    """A number; nothing for what an agent has written in place of one."""
    return int(value) if isinstance(value, int | float) and 0 <= value < 1 << 53 else 0


def make_share(cluster: Cluster, name: str) -> list[float]:
    """How much of something can be given to tasks, and how much there is."""
    return [_number(amounts.get(name, "0")) for amounts in (cluster.allocatable, cluster.capacity)]


def _number(text: str) -> float:
    try:
        return float(parse_quantity(text))
    except (ValueError, CumuletError):
        return 0.0


def make_tiers(clusters: Iterable[Cluster], hear: Callable[[str], Heard]) -> list[Json]:
    """The site map: tiers from the top, each with counts by state and its clusters, trouble first.

    `hear` is asked for what the hub has heard of those that are shown.
    Of a tier with very many clusters only the first are listed; the counts are of all.
    """
    found: dict[str, list[Cluster]] = {tier: [] for tier in reversed(TIERS)}
    for each in clusters:
        found[get_tier(each)].append(each)
    tiers = []
    for tier, members in found.items():
        if not members:
            continue
        members.sort(key=lambda each: (ORDER.index(each.state), each.name))
        shown = [make_row(each, hear(each.name)) for each in members[:MOST_SHOWN]]
        counts = Counter(each.state for each in members)
        sums = {
            name: [sum(make_share(each, name)[at] for each in members) for at in (0, 1)] for name in ("cpu", "memory")
        }
        tiers.append({"tier": tier, "counts": dict(counts), "total": len(members), "clusters": shown, **sums})
    return tiers


def make_waiting(clusters: Mapping[str, Cluster], wishes: Iterable[Wish]) -> list[Json]:
    """Who wants in: clusters that are not accepted, with what a person has to compare, the oldest request first."""
    asked: dict[str, list[Wish]] = {}
    for wish in wishes:
        if not wish.decided:
            asked.setdefault(wish.cluster, []).append(wish)
    found = []
    for name, cluster in clusters.items():
        mine = sorted(asked.get(name, ()), key=lambda each: each.created)
        if cluster.state != "pending" and not mine:
            continue
        found.append(
            {
                "name": name,
                "state": cluster.state,
                "since": mine[0].created if mine else "",
                "keys": sorted({key for each in mine if (key := _read_key(each))}),
                "serials": sorted({each.annotations[SERIAL] for each in mine if SERIAL in each.annotations}),
                "requests": len(mine),
            }
        )
    return sorted(found, key=lambda each: (str(each["since"]) or "~", str(each["name"])))


def _read_key(wish: Wish) -> str:
    try:
        return read_request(wish.request).key
    except (CumuletError, ValueError):
        return ""


def make_rollouts(sets: Iterable[Json]) -> list[Json]:
    """Every ManifestWorkReplicaSet: for how many clusters it is, and how it is there."""
    found = []
    for each in sets:
        meta, status = each["metadata"], each.get("status") or {}
        summary = status.get("summary") or {}
        names = ("total", "applied", "available", "degraded", "progressing")
        problems = [
            one["message"]
            for one in status.get("conditions") or ()
            if one.get("status") == "False" and "message" in one
        ]
        manifests = each["spec"]["manifestWorkTemplate"].get("workload", {}).get("manifests") or ()
        found.append(
            {
                "name": meta["name"],
                "namespace": meta["namespace"],
                "created": meta.get("creationTimestamp", ""),
                "kinds": sorted({str(one.get("kind", "")) for one in manifests}),
                "images": find_images(manifests),
                "problem": problems[0] if problems else "",
                **{name: int(summary.get(name, 0)) for name in names},
            }
        )
    return sorted(found, key=lambda each: (str(each["created"]), str(each["name"])), reverse=True)


def find_images(manifests: Iterable[Json]) -> list[str]:
    """The container images that manifests name: the versions of tasks and models."""
    found: set[str] = set()
    for each in manifests:
        spec = each.get("spec") or {}
        pod = ((spec.get("template") or {}).get("spec")) or spec
        for part in ("containers", "initContainers"):
            found |= {str(one["image"]) for one in pod.get(part) or () if "image" in one}
        found |= {str(one["image"]["reference"]) for one in pod.get("volumes") or () if "image" in one}
    return sorted(found)
