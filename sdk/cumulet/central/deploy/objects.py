"""A task's profile as objects of a hub: which sites, what they must have, and the work for each of them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from cumulet.central.hub.placing import NEEDS
from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import (
    DESCEND,
    NAMESPACES,
    PLACEMENTS,
    REPLICA_SETS,
    TASKS,
    TASKS_NAMESPACE,
)
from cumulet.central.reports import make_rules
from cumulet.core.errors import UsageError
from cumulet.core.notes import GPU_RESOURCE
from cumulet.packing import TASK_LABEL, Amounts
from cumulet.tasks import TaskProfile, make_amounts

MODEL_NOTE = "cumulet.io/model"
TRAINED_NOTE = "cumulet.io/trained-by"
"""Annotation of a deployment: the job on the hub's cluster that made its model."""
Made = tuple[Resource, Json]


@dataclass(frozen=True, slots=True)
class Where:
    """Which sites: all of these claims and labels, and `sites` of those that match (None: every one)."""

    claims: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    sites: int | None = None


def make_site_needs(profile: TaskProfile, standard: Amounts | None = None) -> dict[str, str]:
    """What a site must have for a task, all of its containers together, as Kubernetes writes amounts.

    What was measured counts; of what was declared, percents of a CPU say something only of nodes of a known size
    (`standard`), and are left out without one.
    """
    amounts = make_amounts(profile, standard or Amounts())
    count = profile.replicas.least
    needs = {
        "cpu": f"{amounts.cpu * count}m" if amounts.cpu else "",
        "memory": f"{-(-amounts.memory * count // 1024)}Ki" if amounts.memory else "",
        GPU_RESOURCE: str(amounts.gpu * count) if amounts.gpu else "",
    }
    return {name: amount for name, amount in needs.items() if amount}


def make_task(profile: TaskProfile) -> Json:
    """The manifest that lies at every site."""
    document = {"version": 1, **profile.model_dump(mode="json", exclude_defaults=True)}
    meta = {"name": profile.task, "namespace": TASKS_NAMESPACE}
    return {"apiVersion": TASKS.api_version, "kind": TASKS.kind, "metadata": meta, "spec": {"profile": document}}


def make_deployment(
    profile: TaskProfile, where: Where, *, standard: Amounts | None = None, notes: Mapping[str, str] | None = None
) -> list[Made]:
    """Namespace, placement and replica set, in the order in which they are applied.

    Raises UsageError if no site is named by anything: a task is not sent everywhere by mistake.
    """
    if not where.claims and not where.labels:
        raise UsageError(f"{profile.task}: to which sites?", hint="--to tier=edge, or another claim of theirs")
    needs = make_site_needs(profile, standard)
    meta = {"name": profile.task, "namespace": TASKS_NAMESPACE}
    labels = {DESCEND: "true", TASK_LABEL: profile.task}
    claims = [{"key": key, "operator": "In", "values": [value]} for key, value in sorted(where.claims.items())]
    selector: Json = {"claimSelector": {"matchExpressions": claims}} if claims else {}
    selector |= {"labelSelector": {"matchLabels": dict(where.labels)}} if where.labels else {}
    place: Json = {"predicates": [{"requiredClusterSelector": selector}]}
    place |= {"numberOfClusters": where.sites} if where.sites is not None else {}
    model = {MODEL_NOTE: profile.model} if profile.model else {}
    replicas = {"placementRefs": [{"name": profile.task}], "manifestWorkTemplate": make_work_spec(profile)}
    return [
        (NAMESPACES, {"metadata": {"name": TASKS_NAMESPACE}}),
        (
            PLACEMENTS,
            {"metadata": {**meta, "labels": labels, "annotations": {NEEDS: json.dumps(needs)}}, "spec": place},
        ),
        (
            REPLICA_SETS,
            {"metadata": {**meta, "labels": labels, "annotations": {**model, **(notes or {})}}, "spec": replicas},
        ),
    ]


def make_work_spec(profile: TaskProfile) -> Json:
    """What every site gets: a namespace, which stays, and the task, of which the site tells how it is."""
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": TASKS_NAMESPACE}}
    orphan = {"group": "", "resource": "namespaces", "name": TASKS_NAMESPACE, "namespace": ""}
    task = {"group": TASKS.group, "resource": TASKS.plural, "name": profile.task, "namespace": TASKS_NAMESPACE}
    return {
        "workload": {"manifests": [space, make_task(profile)]},
        # Other tasks are in this namespace too.
        "deleteOption": {
            "propagationPolicy": "SelectivelyOrphan",
            "selectivelyOrphans": {"orphaningRules": [orphan]},
        },
        "manifestConfigs": [{"resourceIdentifier": task, "feedbackRules": make_rules()}],
    }
