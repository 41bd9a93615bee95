"""Which clusters a placement chooses: pure rules over labels, claims, taints and free resources."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cumulet.central.hub.records import Cluster
from cumulet.central.hub.sums import may_have
from cumulet.central.kube import Json
from cumulet.central.protocol import CLUSTER_SET_LABEL, DESCEND, UNAVAILABLE_TAINT, UNREACHABLE_TAINT
from cumulet.central.selectors import match_all, match_labels
from cumulet.core.quantities import parse_quantity

NEEDS = "cumulet.io/needs"
"""Annotation of a placement: amounts (JSON) that must be allocatable at a cluster, as a task profile has them."""
DECISION_SIZE = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """The clusters that were chosen, in order; why there are too few, if there are; what is not understood."""

    names: tuple[str, ...]
    short: str = ""
    wrong: str = ""


def choose(placement: Json, clusters: Iterable[Cluster], before: Collection[str] = ()) -> Choice:
    """Choose. Clusters that were chosen `before` stay chosen as long as they match."""
    spec = placement["spec"]
    wrong = find_unknown(spec)
    if wrong:
        return Choice((), "", wrong)
    try:
        needs = read_needs(placement)
    except ValueError as error:
        return Choice((), "", str(error))
    descend = (placement["metadata"].get("labels") or {}).get(DESCEND) == "true"
    fitting = [
        cluster
        for cluster in clusters
        if cluster.accepted
        and not cluster.deleting
        and matches(spec, cluster, descend)
        and tolerates(spec.get("tolerations") or (), cluster, cluster.name in before)
        and has_room(needs, cluster)
    ]
    seed = placement["metadata"].get("uid", "")
    ranked = sorted(fitting, key=lambda each: (each.name not in before, _shuffle(seed, each.name)))
    wanted = spec.get("numberOfClusters")
    chosen = ranked if wanted is None else ranked[:wanted]
    short = f"{len(chosen)} of {wanted} clusters were found" if wanted is not None and len(chosen) < wanted else ""
    return Choice(tuple(sorted(each.name for each in chosen)), short or ("" if chosen else "no cluster matches"))


def find_unknown(spec: Json) -> str:
    """What in a placement this hub does not do, or an empty text."""
    for predicate in spec.get("predicates") or ():
        if ((predicate.get("requiredClusterSelector") or {}).get("celSelector") or {}).get("celExpressions"):
            return "celSelector is not supported by this hub"
    if (spec.get("prioritizerPolicy") or {}).get("configurations"):
        return "prioritizerPolicy.configurations is not supported by this hub"
    return ""


def read_needs(placement: Json) -> dict[str, Fraction]:
    """The amounts that a placement needs at a cluster. Raises ValueError."""
    text = (placement["metadata"].get("annotations") or {}).get(NEEDS)
    if not text:
        return {}
    try:
        return {name: parse_quantity(amount) for name, amount in json.loads(text).items()}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"the annotation {NEEDS} is not an object of amounts: {error}") from None


def matches(spec: Json, cluster: Cluster, descend: bool) -> bool:
    """Whether a cluster is in the sets and fulfils one of the predicates; a hub does if a cluster below it may."""
    sets = spec.get("clusterSets") or ()
    below = descend and cluster.is_hub
    if sets and cluster.labels.get(CLUSTER_SET_LABEL) not in sets and not below:
        return False
    predicates = spec.get("predicates") or ()
    if not predicates:
        return below or not cluster.is_hub
    check = _may_match_below if below else _matches_itself
    return any(check(each.get("requiredClusterSelector") or {}, cluster) for each in predicates)


def _matches_itself(selector: Json, cluster: Cluster) -> bool:
    claims = (selector.get("claimSelector") or {}).get("matchExpressions") or ()
    return match_labels(selector.get("labelSelector") or {}, cluster.labels) and match_all(claims, cluster.claims)


def _may_match_below(selector: Json, cluster: Cluster) -> bool:
    labels = selector.get("labelSelector") or {}
    plain = [{"key": k, "operator": "In", "values": [v]} for k, v in (labels.get("matchLabels") or {}).items()]
    asked = [*plain, *(labels.get("matchExpressions") or ())]
    asked += (selector.get("claimSelector") or {}).get("matchExpressions") or ()
    return all(_may_hold_below(each, cluster) for each in asked)


def _may_hold_below(requirement: Json, cluster: Cluster) -> bool:
    if requirement["operator"] == "In":
        return may_have(cluster, requirement["key"], requirement.get("values") or ())
    if requirement["operator"] == "Exists":
        return may_have(cluster, requirement["key"], None)
    return True


def tolerates(tolerations: Sequence[Json], cluster: Cluster, chosen: bool) -> bool:
    """Whether no taint keeps the cluster out. One that is silent or unwell counts as tainted."""
    return all(
        any(_tolerates_one(each, taint) for each in tolerations)
        for taint in find_taints(cluster)
        if taint["effect"] == "NoSelect" or (taint["effect"] == "NoSelectIfNew" and not chosen)
    )


def find_taints(cluster: Cluster) -> list[Json]:
    """Its taints, and those that its state amounts to; a work that is there stays when its cluster is cut off."""
    taints = list(cluster.taints)
    state = {"True": "", "False": UNAVAILABLE_TAINT}.get(cluster.status("ManagedClusterConditionAvailable"))
    key = UNREACHABLE_TAINT if state is None else state
    if key and all(each["key"] != key for each in taints):
        taints.append({"key": key, "effect": "NoSelectIfNew"})
    return taints


def _tolerates_one(toleration: Json, taint: Json) -> bool:
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    if toleration["key"] != taint["key"]:
        return False
    return toleration.get("operator") == "Exists" or toleration.get("value", "") == taint.get("value", "")


def has_room(needs: Mapping[str, Fraction], cluster: Cluster) -> bool:
    """Whether as much is allocatable there; what a cluster does not tell it does not have."""
    try:
        return all(parse_quantity(cluster.allocatable.get(name, "0")) >= amount for name, amount in needs.items())
    except ValueError:
        return False


def _shuffle(seed: str, name: str) -> bytes:
    return hashlib.sha256(f"{seed}/{name}".encode()).digest()


def make_decisions(names: Sequence[str]) -> list[list[Json]]:
    """The chosen clusters in portions, each for one PlacementDecision; always at least one."""
    portions = [names[start : start + DECISION_SIZE] for start in range(0, len(names), DECISION_SIZE)] or [()]
    return [[{"clusterName": name, "reason": ""} for name in portion] for portion in portions]
