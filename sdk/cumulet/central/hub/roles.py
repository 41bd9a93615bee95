"""What the hub makes for one cluster: a namespace and the rights of its agent, as pure functions.

The names and rules are Open Cluster Management's, with one difference: an agent of
ours sees no certificate requests but its own. A stock agent cannot work without
seeing all; it gets what that project gives it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from cumulet.central.hub.install import (
    READ,
    REGISTRATION_ROLE,
    WORK_ROLE,
    Made,
    make_binding,
    make_group_subject,
    make_rule,
)
from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    CLUSTER_BINDINGS,
    CLUSTER_LABEL,
    CLUSTER_ROLES,
    CLUSTERS,
    CONTENT,
    LEASE,
    LEASES,
    NAMESPACES,
    OLD_PREFIX,
    REGISTER_GROUP,
    RETURN_GROUP,
    ROLE_BINDINGS,
    WORK_FINALIZER,
    make_group,
    make_time,
)
from cumulet.core.files import sha256_text

REQUESTS_KIND = "certificatesigningrequests"


def get_role_name(cluster: str) -> str:
    """The name of a cluster's ClusterRole and its binding."""
    return f"open-cluster-management:managedcluster:{cluster}"


def get_requests_name(cluster: str) -> str:
    """The name of the role that lets a cluster's agent see its own requests."""
    return f"cumulet:requests:{cluster}"


def get_newcomer_name(cluster: str) -> str:
    """The name of the role of a token that is for one cluster."""
    return f"cumulet:newcomer:{cluster}"


def make_subjects(cluster: str) -> list[Json]:
    """A cluster's agents, as new and as old ones are named."""
    return [make_group_subject(make_group(cluster)), make_group_subject(f"{OLD_PREFIX}{cluster}")]


def make_namespace(cluster: str) -> Made:
    """The namespace of a cluster."""
    return stamp(NAMESPACES, {"metadata": {"name": cluster, "labels": {CLUSTER_LABEL: cluster}}})


def make_cluster_role(cluster: str, accepted: bool, strict: bool) -> list[Made]:
    """What a cluster's agent may do outside of its namespace. `strict`: it sees no requests but its own."""
    name, meta = get_role_name(cluster), {"labels": {CLUSTER_LABEL: cluster}}
    group, plural = CLUSTERS.group, CLUSTERS.plural
    if accepted:
        rules = [
            make_rule("certificates.k8s.io", REQUESTS_KIND, ("create",) if strict else ("create", *READ)),
            make_rule(REGISTER_GROUP, "managedclusters/clientcertificates", ("renew",)),
            make_rule(group, plural, (*READ, "update"), (cluster,)),
            make_rule(group, f"{plural}/status", ("patch", "update"), (cluster,)),
        ]
    else:
        rules = [make_rule(group, plural, READ, (cluster,))]
    return [
        stamp(CLUSTER_ROLES, {"metadata": {"name": name, **meta}, "rules": rules}),
        stamp(CLUSTER_BINDINGS, make_binding(name, name, make_subjects(cluster), meta)),
    ]


def make_namespace_roles(cluster: str) -> list[Made]:
    """What a cluster's agent may do inside its namespace."""
    meta: Json = {"namespace": cluster, "labels": {CLUSTER_LABEL: cluster}}
    name, subjects = get_role_name(cluster), make_subjects(cluster)
    kept = {**meta, "finalizers": [WORK_FINALIZER]}
    return [
        stamp(ROLE_BINDINGS, make_binding(f"{name}:registration", REGISTRATION_ROLE, subjects, meta)),
        stamp(ROLE_BINDINGS, make_binding(f"{name}:work", WORK_ROLE, subjects, kept)),
    ]


def make_requests_role(cluster: str, names: Sequence[str]) -> list[Made]:
    """A cluster's agent, with certificate or token, sees these requests, which are its own."""
    name, meta = get_requests_name(cluster), {"labels": {CLUSTER_LABEL: cluster}}
    rules = [make_rule("certificates.k8s.io", REQUESTS_KIND, ("get", "watch"), names)] if names else []
    groups = (make_group(cluster), f"{BOOTSTRAP_GROUP}:{cluster}", f"{RETURN_GROUP}:{cluster}")
    subjects = [make_group_subject(each) for each in groups]
    return [
        stamp(CLUSTER_ROLES, {"metadata": {"name": name, **meta}, "rules": rules}),
        stamp(CLUSTER_BINDINGS, make_binding(name, name, subjects, meta)),
    ]


def make_newcomer_role(cluster: str) -> list[Made]:
    """What a token for one cluster may do: make that cluster known, and ask for its certificate."""
    name, meta = get_newcomer_name(cluster), {"labels": {CLUSTER_LABEL: cluster}}
    new = [
        make_rule(CLUSTERS.group, CLUSTERS.plural, ("create",)),
        make_rule(CLUSTERS.group, CLUSTERS.plural, ("get", "update"), (cluster,)),
        make_rule("certificates.k8s.io", REQUESTS_KIND, ("create",)),
    ]
    back = [make_rule("certificates.k8s.io", REQUESTS_KIND, ("create",))]
    returning = f"{name}:return"
    return [
        stamp(CLUSTER_ROLES, {"metadata": {"name": name, **meta}, "rules": new}),
        stamp(CLUSTER_BINDINGS, make_binding(name, name, [make_group_subject(f"{BOOTSTRAP_GROUP}:{cluster}")], meta)),
        stamp(CLUSTER_ROLES, {"metadata": {"name": returning, **meta}, "rules": back}),
        stamp(
            CLUSTER_BINDINGS,
            make_binding(returning, returning, [make_group_subject(f"{RETURN_GROUP}:{cluster}")], meta),
        ),
    ]


def make_lease(cluster: str) -> Made:
    """The lease that the agent renews. It is made once and then the agent's, so it bears no digest."""
    meta = {"name": LEASE, "namespace": cluster, "labels": {CLUSTER_LABEL: cluster}}
    return LEASES, {"metadata": meta, "spec": {"holderIdentity": LEASE, "renewTime": make_time(micro=True)}}


def stamp(resource: Resource, body: Json) -> Made:
    """The object with the digest of its content."""
    digest = sha256_text(json.dumps(body, sort_keys=True))[:16]
    meta = {**body["metadata"], "annotations": {**body["metadata"].get("annotations", {}), CONTENT: digest}}
    return resource, {**body, "metadata": meta}
