"""What a Kubernetes must know to be a hub: kinds, roles, policies, shares of its API server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from cumulet.central.crds import ADDONS, make_hub_crds
from cumulet.central.hub.policies import make_policies
from cumulet.central.kube import Json, Kube, Resource
from cumulet.central.protocol import (
    BOOTSTRAP_GROUP,
    CLUSTER_BINDINGS,
    CLUSTER_LABEL,
    CLUSTER_ROLES,
    CLUSTERS,
    CRDS,
    EVERY_CLUSTER,
    HUB_NAMESPACE,
    HUB_OWNER,
    NAMESPACES,
    NEWCOMERS,
    REGISTER_GROUP,
    SIGNER,
    WORKS,
    is_true,
)
from cumulet.core.deadline import Deadline

ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")
LEVELS = Resource(
    "flowcontrol.apiserver.k8s.io", "v1", "prioritylevelconfigurations", "PriorityLevelConfiguration", False
)
FLOWS = Resource("flowcontrol.apiserver.k8s.io", "v1", "flowschemas", "FlowSchema", False)
REGISTRATION_ROLE = "open-cluster-management:managedcluster:registration"
WORK_ROLE = "open-cluster-management:managedcluster:work"
BOOTSTRAP_ROLE = "system:open-cluster-management:bootstrap"
READ = ("get", "list", "watch")
WRITE = (*READ, "create", "update", "patch", "delete")
log = logging.getLogger("cumulet.hub")
Made = tuple[Resource, Json]


def make_rule(group: str, resources: str, verbs: Sequence[str], names: Sequence[str] = ()) -> Json:
    """A rule of a role; `resources` and `names` are what it is limited to."""
    made: Json = {"apiGroups": [group], "resources": resources.split(), "verbs": list(verbs)}
    return made | ({"resourceNames": list(names)} if names else {})


def make_group_subject(name: str) -> Json:
    """A group, as a binding names it."""
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": name}


def make_binding(name: str, role: str, subjects: Sequence[Json], meta: Json | None = None) -> Json:
    """A binding of a ClusterRole."""
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role}
    return {"metadata": {"name": name, **(meta or {})}, "roleRef": reference, "subjects": list(subjects)}


def make_agent_roles() -> list[Made]:
    """Roles that every cluster's agent is bound to inside its namespace, and what newcomers may do."""
    label = {"labels": {CLUSTER_LABEL: ""}}
    addons = ADDONS.group
    registration = [
        make_rule("coordination.k8s.io", "leases", (*READ, "update")),
        make_rule(addons, ADDONS.plural, READ),
        make_rule(addons, f"{ADDONS.plural}/status", ("patch", "update")),
        make_rule("events.k8s.io", "events", ("create",)),
    ]
    work = [
        make_rule("", "events", ("create", "patch", "update")),
        make_rule("events.k8s.io", "events", ("create", "patch", "update")),
        make_rule(WORKS.group, WORKS.plural, (*READ, "update", "patch")),
        make_rule(WORKS.group, f"{WORKS.plural}/status", ("patch", "update")),
    ]
    newcomer = [
        make_rule("certificates.k8s.io", "certificatesigningrequests", (*READ, "create")),
        make_rule(CLUSTERS.group, CLUSTERS.plural, ("get", "create", "list", "update")),
        make_rule(CLUSTERS.group, "managedclustersets/join", ("create",)),
        make_rule("", "configmaps", ("get",)),
    ]
    subjects = [make_group_subject(BOOTSTRAP_GROUP)]
    return [
        (CLUSTER_ROLES, {"metadata": {"name": REGISTRATION_ROLE, **label}, "rules": registration}),
        (CLUSTER_ROLES, {"metadata": {"name": WORK_ROLE, **label}, "rules": work}),
        (CLUSTER_ROLES, {"metadata": {"name": BOOTSTRAP_ROLE}, "rules": newcomer}),
        (CLUSTER_BINDINGS, make_binding(BOOTSTRAP_ROLE, BOOTSTRAP_ROLE, subjects)),
    ]


def make_hub_role() -> list[Made]:
    """The account that the controllers run as, and all that it may do."""
    ours = ("cluster.open-cluster-management.io", "work.open-cluster-management.io", ADDONS.group)
    rules = [make_rule(group, "*", WRITE) for group in ours]
    rules += [
        make_rule("certificates.k8s.io", "certificatesigningrequests", WRITE),
        make_rule("certificates.k8s.io", "certificatesigningrequests/approval", ("update", "patch")),
        make_rule("certificates.k8s.io", "signers", ("approve",), (SIGNER,)),
        make_rule("coordination.k8s.io", "leases", WRITE),
        make_rule("authorization.k8s.io", "subjectaccessreviews", ("create",)),
        make_rule("authentication.k8s.io", "tokenreviews", ("create",)),
        make_rule("", "namespaces secrets configmaps", WRITE),
        make_rule("", "events", ("create", "patch")),
        # It hands out rights, so it must be allowed to have given what it gives.
        make_rule("rbac.authorization.k8s.io", "clusterroles", (*WRITE, "escalate", "bind")),
        make_rule("rbac.authorization.k8s.io", "clusterrolebindings rolebindings", WRITE),
        make_rule(REGISTER_GROUP, "managedclusters/accept managedclusters/clientcertificates", ("update", "renew")),
    ]
    account = {"kind": "ServiceAccount", "name": HUB_OWNER, "namespace": HUB_NAMESPACE}
    return [
        (NAMESPACES, {"metadata": {"name": HUB_NAMESPACE}}),
        (ACCOUNTS, {"metadata": {"name": HUB_OWNER, "namespace": HUB_NAMESPACE}}),
        (CLUSTER_ROLES, {"metadata": {"name": HUB_OWNER}, "rules": rules}),
        (CLUSTER_BINDINGS, make_binding(HUB_OWNER, HUB_OWNER, [account])),
    ]


def make_shares() -> list[Made]:
    """How much of the API server each kind of caller gets, so that no cluster takes it from the others."""
    hub = [{"kind": "ServiceAccount", "serviceAccount": {"name": HUB_OWNER, "namespace": HUB_NAMESPACE}}]
    agents = [{"kind": "Group", "group": {"name": EVERY_CLUSTER}}]
    newcomers = [{"kind": "Group", "group": {"name": name}} for name in (BOOTSTRAP_GROUP, NEWCOMERS)]
    return [
        *_make_share("cumulet-hub", 700, 40, hub),
        *_make_share("cumulet-agents", 800, 30, agents),
        *_make_share("cumulet-newcomers", 810, 5, newcomers),
    ]


def _make_share(name: str, precedence: int, shares: int, subjects: Sequence[Json]) -> list[Made]:
    queuing = {"queues": 64, "handSize": 6, "queueLengthLimit": 50}
    limited = {"nominalConcurrencyShares": shares, "limitResponse": {"type": "Queue", "queuing": queuing}}
    everything = {
        "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": True,
    }  # fmt: skip
    flow = {
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": precedence,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": list(subjects), "resourceRules": [everything]}],
    }
    meta = {"metadata": {"name": name}}
    return [(LEVELS, {**meta, "spec": {"type": "Limited", "limited": limited}}), (FLOWS, {**meta, "spec": flow})]


def make_install() -> list[Made]:
    """Everything after the kinds, in the order in which it is applied."""
    return [*make_hub_role(), *make_agent_roles(), *make_policies(), *make_shares()]


async def install(kube: Kube, deadline: Deadline) -> None:
    """Make a Kubernetes a hub, or bring one up to date. Raises RefusedError, TargetError."""
    for body in make_hub_crds():
        await kube.apply(CRDS, body, owner=HUB_OWNER)
    await wait_for_crds(kube, [body["metadata"]["name"] for body in make_hub_crds()], deadline)
    for resource, body in make_install():
        await kube.apply(resource, body, owner=HUB_OWNER)
    log.info("%s: is a hub", kube.access.host)


async def wait_for_crds(kube: Kube, names: Sequence[str], deadline: Deadline) -> None:
    """Until the API server serves these kinds."""
    for name in names:
        # Its conditions are null for a moment.
        while not is_true(((await kube.get(CRDS, name)).get("status") or {}).get("conditions") or (), "Established"):
            deadline.check(f"{kube.access.host}: kind {name}")
            await asyncio.sleep(0.2)
