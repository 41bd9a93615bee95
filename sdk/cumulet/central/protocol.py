"""The words of the protocol between hub and cluster (Open Cluster Management's), and of ours on top of it.

Names, kinds and conditions as that project's API and agents have them, so that a
stock agent can join our hub and ours a stock hub. What begins with cumulet.io is ours.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterable, Mapping

from cumulet.central.kube import Json, Resource

CLUSTERS = Resource("cluster.open-cluster-management.io", "v1", "managedclusters", "ManagedCluster", False)
CLAIMS = Resource("cluster.open-cluster-management.io", "v1alpha1", "clusterclaims", "ClusterClaim", False)
PLACEMENTS = Resource("cluster.open-cluster-management.io", "v1beta1", "placements", "Placement")
DECISIONS = Resource("cluster.open-cluster-management.io", "v1beta1", "placementdecisions", "PlacementDecision")
WORKS = Resource("work.open-cluster-management.io", "v1", "manifestworks", "ManifestWork")
APPLIED_WORKS = Resource("work.open-cluster-management.io", "v1", "appliedmanifestworks", "AppliedManifestWork", False)
REPLICA_SETS = Resource(
    "work.open-cluster-management.io", "v1alpha1", "manifestworkreplicasets", "ManifestWorkReplicaSet"
)
REQUESTS = Resource("certificates.k8s.io", "v1", "certificatesigningrequests", "CertificateSigningRequest", False)
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")
NAMESPACES = Resource("", "v1", "namespaces", "Namespace", False)
SECRETS = Resource("", "v1", "secrets", "Secret")
CONFIG_MAPS = Resource("", "v1", "configmaps", "ConfigMap")
NODES = Resource("", "v1", "nodes", "Node", False)
CLUSTER_ROLES = Resource("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", False)
CLUSTER_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", False)
ROLE_BINDINGS = Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
CRDS = Resource("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", False)
REVIEWS = Resource("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", False)
TASKS = Resource("cumulet.dev", "v1alpha1", "tasks", "Task")
"""Ours: an AI task that the centre wants at a cluster, by its profile; the cluster's dispatcher makes it run."""

# --- Open Cluster Management's words
CLUSTER_LABEL = "open-cluster-management.io/cluster-name"
CLUSTER_SET_LABEL = "cluster.open-cluster-management.io/clusterset"
SIGNER = "kubernetes.io/kube-apiserver-client"
USAGES = ("digital signature", "key encipherment", "client auth")
USER_PREFIX = "system:open-cluster-management:"
EVERY_CLUSTER = "system:open-cluster-management:managed-clusters"
OLD_PREFIX = "open-cluster-management:"
BOOTSTRAP_GROUP = "system:bootstrappers:managedcluster"
LEASE = "managed-cluster-lease"
LEASE_SECONDS = 60
LEASES_MISSED = 5
MOST_REQUESTS = 10
CLUSTER_FINALIZER = "cluster.open-cluster-management.io/api-resource-cleanup"
WORK_FINALIZER = "cluster.open-cluster-management.io/manifest-work-cleanup"
APPLIED_FINALIZER = "cluster.open-cluster-management.io/applied-manifest-work-cleanup"
SET_FINALIZER = "work.open-cluster-management.io/manifest-work-cleanup"
SET_LABEL = "work.open-cluster-management.io/manifestworkreplicaset"
PLACEMENT_NAME_LABEL = "work.open-cluster-management.io/placementname"
PLACEMENT_LABEL = "cluster.open-cluster-management.io/placement"
UNREACHABLE_TAINT = "cluster.open-cluster-management.io/unreachable"
UNAVAILABLE_TAINT = "cluster.open-cluster-management.io/unavailable"
SKIP_CLOCK = "registration.open-cluster-management.io/skip-clock-sync-check"
ACCEPTED = "HubAcceptedManagedCluster"
JOINED = "ManagedClusterJoined"
AVAILABLE = "ManagedClusterConditionAvailable"
CLOCK_SYNCED = "ManagedClusterConditionClockSynced"
REGISTER_GROUP = "register.open-cluster-management.io"

# --- our own
DEVICE_KEY = "cumulet.io/device-key"
"""Annotation of a request and of a cluster: fingerprint of the key that never leaves the device."""
SERIAL = "cumulet.io/serial"
CONTENT = "cumulet.io/content"
"""Annotation of what the hub makes: digest of what it has written, so that a start writes only what differs."""
TRACE = "cumulet.io/traceparent"
"""Annotation of a work and of a ManifestWorkReplicaSet: the trace that it is a part of, as W3C writes it."""
SKY = "cumulet.io/sky"
"""Annotation of a cluster: the last status that came from it over Beidou, and when."""
OVER_BEIDOU = "CumuletOverBeidou"
"""Condition of a cluster: whether Beidou is the only way in which it is heard of."""
PULSE = "cumulet.io/pulse"
"""Annotation of a cluster's lease: what it says of its tasks, models and links."""
PULSE_MAP = "cumulet-pulse"
"""The ConfigMap in which a hub keeps the sum of those below it for its own agent."""
DESCEND = "cumulet.io/descend"
"""Label of a ManifestWorkReplicaSet that goes on to the hubs below."""
TIER_CLAIM = "tier.cumulet.io"
HUB_CLAIM = "hub.cumulet.io"
BELOW_CLAIM = "clusters.cumulet.io"
AVAILABLE_CLAIM = "available.cumulet.io"
VALUES_CLAIM = "values.cumulet.io/"
ID_CLAIM = "id.k8s.io"
VERSION_CLAIM = "kubeversion.open-cluster-management.io"
TIERS = ("edge", "station", "regional", "central")
TASKS_NAMESPACE = "tasks"
"""Where deployments are at hubs, and tasks at clusters."""
PHASES = ("Failed", "Refused", "Waiting", "Sent", "Starting", "Running", "Done")
"""Of a task at a cluster, trouble first. `Sent`: the cluster has said nothing of it yet."""
HUB_NAMESPACE = "cumulet-hub"
HUB_OWNER = "cumulet-hub"
AGENT_OWNER = "cumulet-agent"
RETURN_GROUP = "system:bootstrappers:cumulet-return"
NEWCOMERS = "system:bootstrappers:cumulet"
"""Every token of ours is in this group, so that the API server gives them a share of their own."""


def make_user(cluster: str, agent: str) -> str:
    """The user that a cluster's agent is."""
    return f"{USER_PREFIX}{cluster}:{agent}"


def make_group(cluster: str) -> str:
    """The group that a cluster's agents are in."""
    return f"{USER_PREFIX}{cluster}"


def make_hub_hash(server: str) -> str:
    """The name that a hub's works go by at a cluster."""
    return hashlib.sha256(server.encode()).hexdigest()


def make_time(when: datetime.datetime | None = None, *, micro: bool = False) -> str:
    """A time as Kubernetes writes it, in UTC."""
    found = (when or datetime.datetime.now(datetime.UTC)).astimezone(datetime.UTC)
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime.datetime:
    """Such a time. Raises ValueError."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def find_condition(conditions: Iterable[Json], kind: str) -> Json | None:
    """The condition of a type, or None."""
    return next((each for each in conditions if each.get("type") == kind), None)


def is_true(conditions: Iterable[Json], kind: str) -> bool:
    """Whether there is a condition of this type with status True."""
    return (find_condition(conditions, kind) or {}).get("status") == "True"


def make_condition(
    kind: str, status: str, reason: str, message: str, before: Iterable[Json] = (), *, generation: int = 0
) -> Json:
    """A condition; the time of its last change is kept while its status stays as it was `before`."""
    old = find_condition(before, kind)
    same = old is not None and old.get("status") == status and old.get("lastTransitionTime")
    made: Json = {"type": kind, "status": status, "reason": reason, "message": message[:32768]}
    made["lastTransitionTime"] = old["lastTransitionTime"] if same and old else make_time()
    if generation:
        made["observedGeneration"] = generation
    return made


def same_condition(one: Mapping[str, object] | None, other: Mapping[str, object]) -> bool:
    """Whether two conditions say the same; when they began to is no matter."""
    names = ("status", "reason", "message", "observedGeneration")
    return one is not None and all(one.get(name) == other.get(name) for name in names)
