"""The kinds of objects that hub and agent work with, as schemas of our own for Open Cluster Management's API.

Group, version, names and meaning are that project's; a stock agent finds here what it
looks for. `make_hub_crds` is what a hub needs, `make_agent_crds` what a cluster needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import (
    APPLIED_WORKS,
    CLAIMS,
    CLUSTERS,
    DECISIONS,
    PHASES,
    PLACEMENTS,
    REPLICA_SETS,
    TASKS,
    WORKS,
)

ADDONS = Resource("addon.open-cluster-management.io", "v1alpha1", "managedclusteraddons", "ManagedClusterAddOn")
MOST_MANIFESTS = 256
TEXT: Json = {"type": "string"}
FLAG: Json = {"type": "boolean"}
NUMBER: Json = {"type": "integer", "format": "int32"}
LONG: Json = {"type": "integer", "format": "int64"}
TIME: Json = {"type": "string", "format": "date-time"}
ANYTHING: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
EMBEDDED: Json = {**ANYTHING, "x-kubernetes-embedded-resource": True}
AMOUNTS: Json = {
    "type": "object",
    "additionalProperties": {"anyOf": [{"type": "integer"}, {"type": "string"}], "x-kubernetes-int-or-string": True},
}


def make_object(needed: Sequence[str] = (), **fields: Json) -> Json:
    """An object with these fields."""
    return {"type": "object", "properties": dict(fields), **({"required": list(needed)} if needed else {})}


def make_list(item: Json, *keys: str, most: int = 0) -> Json:
    """A list; with `keys`, a list whose items are known by these fields."""
    made: Json = {"type": "array", "items": item}
    if keys:
        made |= {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(keys)}
    return made | ({"maxItems": most} if most else {})


def make_choice(*words: str, default: str = "") -> Json:
    """One of some words."""
    return {**TEXT, "enum": list(words), **({"default": default} if default else {})}


def make_text(most: int, least: int = 0, pattern: str = "") -> Json:
    """A text of limited length."""
    return {
        **TEXT,
        "maxLength": most,
        **({"minLength": least} if least else {}),
        **({"pattern": pattern} if pattern else {}),
    }


CONDITION = make_object(
    ["lastTransitionTime", "message", "reason", "status", "type"],
    type=make_text(316, 1),
    status=make_choice("True", "False", "Unknown"),
    reason=make_text(1024, 1, "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
    message=make_text(32768),
    lastTransitionTime=TIME,
    observedGeneration={**LONG, "minimum": 0},
)
CONDITIONS = make_list(CONDITION, "type")
REQUIREMENT = make_object(["key", "operator"], key=TEXT, operator=TEXT, values=make_list(TEXT))
SELECTOR = make_object(
    matchLabels={"type": "object", "additionalProperties": TEXT}, matchExpressions=make_list(REQUIREMENT)
)
CLAIM_SELECTOR = make_object(matchExpressions=make_list(REQUIREMENT))
IDENTIFIER = make_object(["resource", "name"], group=TEXT, resource=TEXT, name=TEXT, namespace=TEXT)


def make_cluster_schema() -> Json:
    """ManagedCluster: one cluster that is or wants to be under this hub."""
    taint = make_object(
        ["key", "effect"],
        key=make_text(316, 1),
        value=make_text(1024),
        effect=make_choice("NoSelect", "PreferNoSelect", "NoSelectIfNew"),
        timeAdded={**TIME, "nullable": True},
    )
    spec = make_object(
        hubAcceptsClient=FLAG,
        leaseDurationSeconds={**NUMBER, "default": 60, "minimum": 0},
        managedClusterClientConfigs=make_list(
            make_object(["url"], url=make_text(2048, 1), caBundle={**TEXT, "format": "byte"}), most=32
        ),
        taints=make_list(taint, most=64),
    )
    claim = make_object(["name", "value"], name=make_text(253, 1), value=make_text(1024, 1))
    namespaces = make_object(["clusterSet", "name"], clusterSet=TEXT, name=make_text(63), conditions=CONDITIONS)
    status = make_object(
        conditions=CONDITIONS,
        capacity=AMOUNTS,
        allocatable=AMOUNTS,
        version=make_object(kubernetes=TEXT),
        clusterClaims=make_list(claim, most=512),
        managedNamespaces=make_list(namespaces, "clusterSet", "name"),
    )
    return make_object(["spec"], spec=spec, status=status)


def make_work_spec() -> Json:
    """What a ManifestWork says, and the template in a ManifestWorkReplicaSet."""
    paths = make_list(make_object(["name", "path"], name=TEXT, path=TEXT, version=TEXT), "name")
    feedback = make_object(["type"], type=make_choice("WellKnownStatus", "JSONPaths"), jsonPaths=paths)
    ignore = make_object(
        ["condition"],
        condition=make_choice("OnSpokePresent", "OnSpokeChange", default="OnSpokePresent"),
        jsonPaths=make_list(TEXT),
        jsonPointers=make_list(TEXT),
        jqPathExpressions=make_list(TEXT),
    )
    applying = make_object(
        force=FLAG,
        fieldManager={**make_text(128, pattern="^work-agent"), "default": "work-agent"},
        ignoreFields=make_list(ignore, "condition"),
    )
    strategies = make_choice("Update", "CreateOnly", "ServerSideApply", "ReadOnly", default="Update")
    strategy = make_object(["type"], type=strategies, serverSideApply=applying)
    rule = make_object(
        ["condition", "type"],
        condition=make_text(316, 1),
        type=make_choice("WellKnownConditions", "CEL"),
        celExpressions=make_list(TEXT),
        message=TEXT,
        messageExpression=TEXT,
    )
    option = make_object(
        ["resourceIdentifier"],
        resourceIdentifier=IDENTIFIER,
        feedbackRules=make_list(feedback),
        feedbackScrapeType=make_choice("Poll", "Watch", default="Poll"),
        updateStrategy=strategy,
        conditionRules=make_list(rule, "condition"),
    )
    account = make_object(["name", "namespace"], name=make_text(253, 1), namespace=make_text(253, 1))
    subject = make_object(["type"], type=make_choice("ServiceAccount"), serviceAccount=account)
    return make_object(
        workload=make_object(manifests=make_list(EMBEDDED, most=MOST_MANIFESTS)),
        deleteOption=make_object(
            ["propagationPolicy"],
            propagationPolicy=make_choice("Foreground", "Orphan", "SelectivelyOrphan", default="Foreground"),
            selectivelyOrphans=make_object(orphaningRules=make_list(IDENTIFIER)),
            ttlSecondsAfterFinished=LONG,
        ),
        manifestConfigs=make_list(option, most=MOST_MANIFESTS),
        executor=make_object(["subject"], subject=subject),
    )


def make_work_schema() -> Json:
    """ManifestWork: objects that are to be in one cluster, and what became of them there."""
    meta = make_object(
        ["ordinal"], ordinal=NUMBER, group=TEXT, version=TEXT, kind=TEXT, resource=TEXT, name=TEXT, namespace=TEXT
    )
    value = make_object(
        ["type"],
        type=make_choice("Integer", "String", "Boolean", "JsonRaw"),
        integer=LONG,
        string=TEXT,
        boolean=FLAG,
        jsonRaw=make_text(1024),
    )
    values = make_list(make_object(["name", "fieldValue"], name=TEXT, fieldValue=value), "name")
    manifest = make_object(
        ["resourceMeta", "conditions"],
        resourceMeta=meta,
        conditions=CONDITIONS,
        statusFeedback=make_object(values=values),
    )
    status = make_object(conditions=CONDITIONS, resourceStatus=make_object(manifests=make_list(manifest)))
    return make_object(["spec"], spec=make_work_spec(), status=status)


def make_set_schema() -> Json:
    """ManifestWorkReplicaSet: one work for all clusters of a placement."""
    rollout: Json = {**ANYTHING, "properties": {"type": TEXT}}
    names = ("total", "progressing", "available", "degraded", "applied", "desiredTotal", "updated")
    summary: Json = {"type": "object", "properties": {name: {"type": "integer"} for name in names}}
    place = make_object(name=TEXT, availableDecisionGroups=TEXT, summary=summary)
    reference = make_object(["name"], name=make_text(253, 1), rolloutStrategy=rollout)
    spec = make_object(
        ["manifestWorkTemplate", "placementRefs"],
        manifestWorkTemplate=make_work_spec(),
        placementRefs={**make_list(reference), "minItems": 1},
        cascadeDeletionPolicy=make_choice("Foreground", "Background", default="Background"),
    )
    status = make_object(
        conditions=CONDITIONS, summary=summary, placementSummary=make_list(place), reports=make_text(1 << 16)
    )
    return make_object(["spec"], spec=spec, status=status)


def make_placement_schema() -> Json:
    """Placement: which clusters."""
    selector = make_object(
        labelSelector=SELECTOR, claimSelector=CLAIM_SELECTOR, celSelector=make_object(celExpressions=make_list(TEXT))
    )
    toleration = make_object(
        key=make_text(316),
        operator=make_choice("Exists", "Equal", default="Equal"),
        value=make_text(1024),
        effect=make_choice("NoSelect", "PreferNoSelect", "NoSelectIfNew"),
        tolerationSeconds=LONG,
    )
    spec = make_object(
        clusterSets=make_list(TEXT),
        numberOfClusters={**NUMBER, "minimum": 0},
        predicates=make_list(make_object(requiredClusterSelector=selector)),
        tolerations=make_list(toleration),
        prioritizerPolicy=ANYTHING,
        spreadPolicy=ANYTHING,
        decisionStrategy=ANYTHING,
        sortBy=TEXT,
        scoreRateLimit=TEXT,
    )
    group = make_object(
        decisionGroupIndex=NUMBER, decisionGroupName=TEXT, decisions=make_list(TEXT), clustersCount=NUMBER
    )
    status = make_object(conditions=CONDITIONS, numberOfSelectedClusters=NUMBER, decisionGroups=make_list(group))
    return make_object(["spec"], spec=spec, status=status)


def make_decision_schema() -> Json:
    """PlacementDecision: the clusters that a placement has chosen."""
    decision = make_object(["clusterName", "reason"], clusterName=TEXT, reason=TEXT, score=LONG)
    return make_object(status=make_object(decisions=make_list(decision)))


def make_addon_schema() -> Json:
    """ManagedClusterAddOn: stock agents look for these; this hub makes none."""
    return make_object(spec=ANYTHING, status=ANYTHING)


def make_applied_schema() -> Json:
    """AppliedManifestWork: at a cluster, what came of one ManifestWork of one hub."""
    resource = make_object(
        ["resource", "name", "version"], group=TEXT, resource=TEXT, name=TEXT, namespace=TEXT, version=TEXT, uid=TEXT
    )
    spec = make_object(["hubHash", "manifestWorkName"], hubHash=TEXT, agentID=TEXT, manifestWorkName=TEXT)
    status = make_object(appliedResources=make_list(resource), evictionStartTime=TIME)
    return make_object(spec=spec, status=status)


def make_claim_schema() -> Json:
    """ClusterClaim: at a cluster, one thing that it says of itself."""
    return make_object(spec=make_object(value=make_text(1024, 1)))


def make_task_schema() -> Json:
    """Task: at a cluster, a task by its profile, and what became of it. `places`: a text, node -> ready and all."""
    spec = make_object(["profile"], profile=ANYTHING)
    status = make_object(
        phase=make_choice(*PHASES),
        message=make_text(1024),
        ready=NUMBER,
        wanted=NUMBER,
        places=make_text(8192),
        delivered=make_text(128),
        observedGeneration=LONG,
    )
    return make_object(["spec"], spec=spec, status=status)


def make_crd(resource: Resource, schema: Json, *columns: tuple[str, str], short: Sequence[str] = ()) -> Json:
    """A definition with one version. `columns`: what `kubectl get` shows, as name and path."""
    shown = [{"name": name, "type": "string", "jsonPath": path} for name, path in columns]
    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    version: dict[str, Any] = {
        "name": resource.version,
        "served": True,
        "storage": True,
        "subresources": {"status": {}} if "status" in schema["properties"] else {},
        "additionalPrinterColumns": [*shown, age],
        "schema": {"openAPIV3Schema": schema},
    }
    names = {
        "plural": resource.plural,
        "singular": resource.kind.lower(),
        "kind": resource.kind,
        "listKind": f"{resource.kind}List",
        **({"shortNames": list(short)} if short else {}),
    }
    scope = "Namespaced" if resource.namespaced else "Cluster"
    spec = {"group": resource.group, "scope": scope, "names": names, "versions": [version]}
    return {"metadata": {"name": f"{resource.plural}.{resource.group}"}, "spec": spec}


def make_hub_crds() -> list[Json]:
    """What a hub serves."""
    joined = ("Joined", '.status.conditions[?(@.type=="ManagedClusterJoined")].status')
    available = ("Available", '.status.conditions[?(@.type=="ManagedClusterConditionAvailable")].status')
    accepted = ("Hub Accepted", ".spec.hubAcceptsClient")
    applied = ("Applied", '.status.conditions[?(@.type=="Applied")].status')
    satisfied = ("Succeeded", '.status.conditions[?(@.type=="PlacementSatisfied")].status')
    chosen = ("Selected", ".status.numberOfSelectedClusters")
    return [
        make_crd(CLUSTERS, make_cluster_schema(), accepted, joined, available, short=("mcl", "mcls")),
        make_crd(WORKS, make_work_schema(), applied),
        make_crd(REPLICA_SETS, make_set_schema(), ("Total", ".status.summary.total"), short=("mwrs",)),
        make_crd(PLACEMENTS, make_placement_schema(), satisfied, chosen),
        make_crd(DECISIONS, make_decision_schema()),
        make_crd(ADDONS, make_addon_schema()),
    ]


def make_agent_crds() -> list[Json]:
    """What a cluster under a hub serves."""
    return [
        make_crd(APPLIED_WORKS, make_applied_schema()),
        make_crd(CLAIMS, make_claim_schema(), ("Value", ".spec.value")),
        make_crd(TASKS, make_task_schema(), ("Phase", ".status.phase"), ("Message", ".status.message")),
    ]
