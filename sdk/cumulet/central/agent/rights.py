"""What an agent may do in its own cluster: apply the kinds that it is for, and look at nodes. Pure."""

from __future__ import annotations

from cumulet.central.agent.config import KINDS
from cumulet.central.kube import Json
from cumulet.central.protocol import APPLIED_WORKS, CLAIMS, CLUSTER_BINDINGS, CLUSTER_ROLES, CRDS

ACCOUNT = "cumulet-agent"
NAMESPACE = "kube-system"
READ = ["get", "list", "watch"]
WRITE = [*READ, "create", "update", "patch", "delete"]


def make_plural(kind: str) -> str:
    """`NetworkPolicy` as it stands in a path: `networkpolicies`."""
    word = kind.lower()
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def make_agent_rights() -> list[Json]:
    """The agent's account, a token for it, and its rights, as objects to be applied.

    Roles and their bindings are among what it applies; it gives nobody more than it has.
    """
    groups: dict[str, list[str]] = {}
    for each in KINDS:
        group, _, kind = each.rpartition("/")
        groups.setdefault(group, []).append(make_plural(kind))
    rules = [{"apiGroups": [group], "resources": names, "verbs": WRITE} for group, names in groups.items()]
    rules += [
        {"apiGroups": [APPLIED_WORKS.group], "resources": [APPLIED_WORKS.plural, f"{APPLIED_WORKS.plural}/status"],
         "verbs": WRITE},
        {"apiGroups": [CLAIMS.group], "resources": [CLAIMS.plural], "verbs": READ},
        {"apiGroups": [""], "resources": ["nodes", "pods"], "verbs": READ},
        {"apiGroups": [CRDS.group], "resources": [CRDS.plural], "verbs": ["get", "create", "patch"]},
    ]  # fmt: skip
    account = {"name": ACCOUNT, "namespace": NAMESPACE}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": ACCOUNT}
    return [
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {**account, "annotations": {"kubernetes.io/service-account.name": ACCOUNT}},
            "type": "kubernetes.io/service-account-token",
        },
        {"apiVersion": CLUSTER_ROLES.api_version, "kind": "ClusterRole", "metadata": {"name": ACCOUNT}, "rules": rules},
        {
            "apiVersion": CLUSTER_BINDINGS.api_version,
            "kind": "ClusterRoleBinding",
            "metadata": {"name": ACCOUNT},
            "roleRef": role,
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    ]
