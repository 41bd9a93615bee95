"""A roll-out from the page: one container image, as a Deployment or a Job, at the clusters of a selector. Pure."""

from __future__ import annotations

import re
from typing import Any

from cumulet.central.kube import Json
from cumulet.central.protocol import DESCEND
from cumulet.core.errors import UsageError

NAMESPACE = "tasks"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
IMAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@-]{0,250}")
KINDS = ("Deployment", "Job")


def make_rollout(form: Json) -> tuple[Json, Json]:
    """Placement and replica set of a form: name, image, kind, replicas, selector, and needs (cpu, memory).

    Raises UsageError naming the field.
    """
    name, image = str(form.get("name", "")), str(form.get("image", ""))
    kind, replicas = str(form.get("kind", "Deployment")), form.get("replicas", 1)
    if not NAME.fullmatch(name):
        raise UsageError(f"name: {name[:60]!r} is not a name: small letters, digits and '-'")
    if not IMAGE.fullmatch(image):
        raise UsageError(f"image: {image[:60]!r} is not an image")
    if kind not in KINDS:
        raise UsageError(f"kind: {kind[:60]!r} is not one of {', '.join(KINDS)}")
    if not isinstance(replicas, int) or not 1 <= replicas <= 1000:
        raise UsageError("replicas: must be 1 to 1000")
    meta = {"name": name, "namespace": NAMESPACE, "labels": {DESCEND: "true"}}
    placement = {"metadata": meta, "spec": {"predicates": [{"requiredClusterSelector": read_selector(form)}]}}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    manifests = [namespace, _make_workload(form, name, image)]
    # The namespace stays: others may have put their things into it.
    rule = {"group": "", "resource": "namespaces", "name": NAMESPACE, "namespace": ""}
    option = {"propagationPolicy": "SelectivelyOrphan", "selectivelyOrphans": {"orphaningRules": [rule]}}
    template = {"workload": {"manifests": manifests}, "deleteOption": option}
    rollout = {"metadata": meta, "spec": {"placementRefs": [{"name": name}], "manifestWorkTemplate": template}}
    return placement, rollout


def read_selector(form: Json) -> Json:
    """`tier=edge,gpu=adreno-630` as a selector of claims. Raises UsageError."""
    text = str(form.get("selector", ""))
    expressions: list[dict[str, Any]] = []
    for pair in filter(None, (each.strip() for each in text.split(","))):
        key, equals, value = pair.partition("=")
        if not equals or not key.strip() or not value.strip():
            raise UsageError(f"selector: {pair[:60]!r} is not name=value")
        expressions.append({"key": key.strip(), "operator": "In", "values": [value.strip()]})
    if not expressions:
        raise UsageError("selector: name at least one claim, such as tier=edge")
    return {"claimSelector": {"matchExpressions": expressions}}


def _make_workload(form: Json, name: str, image: str) -> Json:
    labels = {"app.kubernetes.io/name": name}
    needs = {key: str(form[key]) for key in ("cpu", "memory") if form.get(key)}
    container: Json = {"name": name, "image": image, **({"resources": {"requests": needs}} if needs else {})}
    job = form.get("kind") == "Job"
    pod = {"containers": [container], **({"restartPolicy": "OnFailure"} if job else {})}
    template = {"metadata": {"labels": labels}, "spec": pod}
    meta = {"name": name, "namespace": NAMESPACE, "labels": labels}
    replicas = int(form.get("replicas", 1))
    if job:
        spec: Json = {"completions": replicas, "parallelism": replicas, "template": template}
        return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": spec}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
