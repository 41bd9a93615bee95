"""What the agent says of its own cluster: version, amounts, claims, whether it is well."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cumulet.central.agent.config import AgentConfig
from cumulet.central.kube import Json, Kube, Query, RefusedError
from cumulet.central.link import UnreachableError
from cumulet.central.protocol import (
    CLAIMS,
    CONFIG_MAPS,
    HUB_NAMESPACE,
    ID_CLAIM,
    NAMESPACES,
    NODES,
    TIER_CLAIM,
    VERSION_CLAIM,
)
from cumulet.core.quantities import add_amounts

SUMS = "cumulet-sums"
MOST_CLAIMS = 200
HIDDEN = "open-cluster-management.io/spoke-only"


@dataclass(frozen=True, slots=True)
class LocalFacts:
    """A cluster, as it is reported."""

    version: str
    capacity: Mapping[str, str]
    allocatable: Mapping[str, str]
    claims: Mapping[str, str] = field(default_factory=dict)


async def probe_facts(kube: Kube, config: AgentConfig) -> LocalFacts:
    """Look at our own cluster. One that is a hub reports the sums below it. Raises RefusedError, UnreachableError."""
    version = str((await kube.call("GET", "/version"))["gitVersion"])
    claims = await probe_claims(kube, config)
    claims[VERSION_CLAIM] = version
    sums = await kube.find(CONFIG_MAPS, SUMS, HUB_NAMESPACE)
    if sums is not None:
        data = {name: json.loads(text) for name, text in sums["data"].items()}
        return LocalFacts(version, data["capacity"], data["allocatable"], {**claims, **data["claims"]})
    capacity: list[Mapping[str, str]] = []
    allocatable: list[Mapping[str, str]] = []
    async for page in kube.pages(Query(NODES), size=20):
        for node in page.get("items") or ():
            capacity.append(node["status"].get("capacity") or {})
            if not node["spec"].get("unschedulable"):
                allocatable.append(node["status"].get("allocatable") or {})
    return LocalFacts(version, add_amounts(capacity), add_amounts(allocatable), claims)


async def probe_claims(kube: Kube, config: AgentConfig) -> dict[str, str]:
    """The document's claims, those that are objects in the cluster, and its identity."""
    claims = {TIER_CLAIM: config.tier, "tier": config.tier, **config.claims}
    system = await kube.find(NAMESPACES, "kube-system")
    if system is not None:
        claims[ID_CLAIM] = system["metadata"]["uid"]
    with contextlib.suppress(RefusedError):  # the kind is not served as long as nobody has made it
        for found in await kube.collect(Query(CLAIMS, labels=f"!{HIDDEN}")):
            claims.setdefault(found["metadata"]["name"], str((found.get("spec") or {}).get("value", "")))
    return {name: value for name, value in claims.items() if value and len(value) <= 1024}


async def probe_health(kube: Kube) -> str:
    """What is wrong with our own API server, or an empty text."""
    try:
        return "" if await kube.alive() else "the kube-apiserver says that it is not well"
    except UnreachableError as error:
        return error.message


def make_status(facts: LocalFacts, conditions: Sequence[Json]) -> Json:
    """The status of a ManagedCluster, as far as it is ours."""
    claims = [{"name": name, "value": value} for name, value in sorted(facts.claims.items())][:MOST_CLAIMS]
    return {
        "version": {"kubernetes": facts.version},
        "capacity": dict(facts.capacity),
        "allocatable": dict(facts.allocatable),
        "clusterClaims": claims,
        "conditions": list(conditions),
    }
