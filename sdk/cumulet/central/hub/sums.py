"""What a hub says of itself to the hub above: the sums of the clusters below it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cumulet.central.hub.records import Cluster
from cumulet.central.kube import Json
from cumulet.central.protocol import (
    AVAILABLE_CLAIM,
    BELOW_CLAIM,
    HUB_CLAIM,
    HUB_NAMESPACE,
    ID_CLAIM,
    VALUES_CLAIM,
    VERSION_CLAIM,
)
from cumulet.core.quantities import add_amounts

MOST_VALUES = 24
MOST_NAMES = 64
OTHERS = "*"
OWN_CLAIMS = {ID_CLAIM, VERSION_CLAIM, HUB_CLAIM, BELOW_CLAIM, AVAILABLE_CLAIM}
SUMS = "cumulet-sums"
"""The ConfigMap in which the agent of a hub finds them."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Amounts of all clusters that are in touch; claims with how many clusters there are, and with which values."""

    capacity: Mapping[str, str] = field(default_factory=dict)
    allocatable: Mapping[str, str] = field(default_factory=dict)
    claims: Mapping[str, str] = field(default_factory=dict)


def make_sums(clusters: Iterable[Cluster]) -> Sums:
    """The sums over accepted clusters; a hub below counts with its own sums."""
    members = sorted((each for each in clusters if each.accepted and not each.deleting), key=lambda each: each.name)
    present = [each for each in members if each.available]
    claims = {HUB_CLAIM: "true"}
    claims[BELOW_CLAIM] = str(sum(count_below(each, BELOW_CLAIM) for each in members))
    claims[AVAILABLE_CLAIM] = str(sum(count_below(each, AVAILABLE_CLAIM) for each in present))
    values: dict[str, Counter[str]] = {}
    for each in members:
        for name, counts in count_values(each).items():
            values.setdefault(name, Counter()).update(counts)
    for name in sorted(values)[:MOST_NAMES]:
        claims[f"{VALUES_CLAIM}{name}"] = write_values(values[name])
    return Sums(
        add_amounts(each.capacity for each in present), add_amounts(each.allocatable for each in present), claims
    )


def count_below(cluster: Cluster, claim: str) -> int:
    """How many clusters a cluster stands for: itself, or what a hub says of those below it."""
    if not cluster.is_hub:
        return 1
    text = cluster.claims.get(claim, "0")
    return int(text) if text.isdigit() else 0


def count_values(cluster: Cluster) -> dict[str, Counter[str]]:
    """Name of a claim or label -> value -> how many clusters have it."""
    if cluster.is_hub:
        found = {name: text for name, text in cluster.claims.items() if name.startswith(VALUES_CLAIM)}
        return {name.removeprefix(VALUES_CLAIM): read_values(text) for name, text in found.items()}
    own = {**cluster.labels, **cluster.claims}
    return {name: Counter({value: 1}) for name, value in own.items() if name not in OWN_CLAIMS}


def write_values(counts: Mapping[str, int]) -> str:
    """`adreno-630=3,adreno-750=1`; of many values only the most frequent, the rest together under `*`."""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    shown = [(value, count) for value, count in ranked if not set("=,*") & set(value) and len(value) <= 40]
    shown = shown[:MOST_VALUES]
    rest = sum(counts.values()) - sum(count for _, count in shown)
    if rest:
        shown.append((OTHERS, rest))
    return ",".join(f"{value}={count}" for value, count in shown)


def read_values(text: str) -> Counter[str]:
    """The counts in such a text; what cannot be read is left out."""
    counts: Counter[str] = Counter()
    for word in text.split(","):
        value, _, count = word.rpartition("=")
        if value and count.isdigit():
            counts[value] += int(count)
    return counts


def make_sums_map(sums: Sums) -> Json:
    """The ConfigMap with the sums."""
    data = {
        "capacity": json.dumps(dict(sums.capacity), sort_keys=True),
        "allocatable": json.dumps(dict(sums.allocatable), sort_keys=True),
        "claims": json.dumps(dict(sums.claims), sort_keys=True),
    }
    return {"metadata": {"name": SUMS, "namespace": HUB_NAMESPACE}, "data": data}


def may_have(cluster: Cluster, name: str, values: Iterable[str] | None) -> bool:
    """Whether below a hub there may be a cluster whose claim or label `name` is one of `values` (None: any)."""
    text = cluster.claims.get(f"{VALUES_CLAIM}{name}")
    if text is None:
        # Names that did not fit are not known to be absent.
        return sum(1 for each in cluster.claims if each.startswith(VALUES_CLAIM)) >= MOST_NAMES
    counts = read_values(text)
    return OTHERS in counts or values is None or any(counts[value] for value in values)
