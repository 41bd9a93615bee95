"""What the API server of a hub refuses by itself, before any controller sees it.

Rules in the server's own language (ValidatingAdmissionPolicy), so that no webhook has
to be alive: who may accept clusters, which names there are, and that an agent speaks
for its own cluster only.
"""

from __future__ import annotations

from collections.abc import Sequence

from cumulet.central.kube import Json, Resource
from cumulet.central.protocol import BOOTSTRAP_GROUP, CLUSTER_LABEL, REGISTER_GROUP, RETURN_GROUP, SIGNER, USER_PREFIX

POLICIES = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicies", "ValidatingAdmissionPolicy", False
)
BINDINGS = Resource(
    "admissionregistration.k8s.io", "v1", "validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", False
)
MOST_REQUEST = 8192
"""Bytes of a certificate request; one with an EC key has about 500."""
RESERVED = ("default", "open-cluster-management", "managed-clusters")
"""No names of clusters. The last would make its agent a member of the group of all clusters' agents."""
RESERVED_PREFIXES = ("kube-", "cumulet-", "open-cluster-management-")

GROUPS = "request.userInfo.groups"
VARIABLES = {
    "agent": f"{GROUPS}.exists(g, g.startsWith('{USER_PREFIX}'))",
    "newcomer": f"{GROUPS}.exists(g, g == '{BOOTSTRAP_GROUP}' || g.startsWith('{BOOTSTRAP_GROUP}:'))",
    "named": f"{GROUPS}.exists(g, g.startsWith('{BOOTSTRAP_GROUP}:'))",
    "returning": f"{GROUPS}.exists(g, g.startsWith('{RETURN_GROUP}:'))",
    "stranger": "variables.agent || variables.newcomer || variables.returning",
}
ACCEPT = (
    f"authorizer.group('{REGISTER_GROUP}').resource('managedclusters').subresource('accept')"
    ".name(object.metadata.name).check('update').allowed()"
)
ACCEPTED_NOW = "object.spec.?hubAcceptsClient.orValue(false)"
ACCEPTED_BEFORE = "(oldObject != null && oldObject.spec.?hubAcceptsClient.orValue(false))"
LABELS_KEPT = "object.metadata.?labels.orValue({}) == oldObject.metadata.?labels.orValue({})"
OWN_CLUSTER = (
    f"object.metadata.?labels.orValue({{}})['{CLUSTER_LABEL}'] in ("
    f"variables.agent ? {GROUPS}.filter(g, g.startsWith('{USER_PREFIX}')).map(g, g.substring({len(USER_PREFIX)}))"
    f" : variables.named ? {GROUPS}.filter(g, g.startsWith('{BOOTSTRAP_GROUP}:'))"
    f".map(g, g.substring({len(BOOTSTRAP_GROUP) + 1}))"
    f" : {GROUPS}.filter(g, g.startsWith('{RETURN_GROUP}:')).map(g, g.substring({len(RETURN_GROUP) + 1})))"
)
HAS_LABEL = f"'{CLUSTER_LABEL}' in object.metadata.?labels.orValue({{}})"

CLUSTER_RULES = (
    (f"{ACCEPTED_NOW} == {ACCEPTED_BEFORE} || {ACCEPT}", "only who may update managedclusters/accept decides that"),
    (
        "object.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && size(object.metadata.name) <= 63",
        "a cluster's name must be a namespace's: small letters, digits and '-', at most 63",
    ),
    (
        f"!(object.metadata.name in {list(RESERVED)})"
        f" && !{list(RESERVED_PREFIXES)}.exists(p, object.metadata.name.startsWith(p))",
        "this name belongs to the hub itself",
    ),
    (
        f"!variables.named || '{BOOTSTRAP_GROUP}:' + object.metadata.name in {GROUPS}",
        "this token is for another cluster",
    ),
    (
        f"request.operation == 'CREATE' || !variables.stranger || ({LABELS_KEPT}"
        " && object.spec.?leaseDurationSeconds == oldObject.spec.?leaseDurationSeconds"
        " && object.spec.?taints == oldObject.spec.?taints)",
        "an agent does not change its cluster's labels, lease or taints",
    ),
    (
        "object.spec.?managedClusterClientConfigs.orValue([]).all(c, c.url.startsWith('https://'))",
        "managedClusterClientConfigs: a url must begin with https://",
    ),
)
REQUEST_RULES = (
    (f"!variables.stranger || object.spec.signerName == '{SIGNER}'", f"the signer of an agent is {SIGNER}"),
    (f"!variables.stranger || {HAS_LABEL}", f"the label {CLUSTER_LABEL} is missing"),
    (
        f"!(variables.agent || variables.named || variables.returning) || ({HAS_LABEL} && {OWN_CLUSTER})",
        "a certificate is requested for another cluster than one's own",
    ),
    (
        f"!variables.stranger || size(object.spec.request) <= {MOST_REQUEST}",
        f"a request has at most {MOST_REQUEST} bytes",
    ),
    (
        "!variables.stranger || size(object.metadata.?annotations.orValue({})) <= 8",
        "a request has at most 8 annotations",
    ),
)
WORK_RULES = (
    (f"!variables.agent || (object.spec == oldObject.spec && {LABELS_KEPT})", "an agent does not change its work"),
)


def make_policies() -> list[tuple[Resource, Json]]:
    """Every policy with its binding."""
    clusters = ("cluster.open-cluster-management.io", "v1", "managedclusters", ("CREATE", "UPDATE"))
    requests = ("certificates.k8s.io", "v1", "certificatesigningrequests", ("CREATE",))
    works = ("work.open-cluster-management.io", "v1", "manifestworks", ("UPDATE",))
    return [
        *_make_policy("cumulet-clusters", clusters, CLUSTER_RULES),
        *_make_policy("cumulet-requests", requests, REQUEST_RULES),
        *_make_policy("cumulet-works", works, WORK_RULES),
    ]


def _make_policy(
    name: str, what: tuple[str, str, str, Sequence[str]], rules: Sequence[tuple[str, str]]
) -> list[tuple[Resource, Json]]:
    group, version, plural, operations = what
    rule = {
        "apiGroups": [group],
        "apiVersions": [version],
        "resources": [plural],
        "operations": list(operations),
    }
    spec = {
        "failurePolicy": "Fail",
        "matchConstraints": {"resourceRules": [rule]},
        "variables": [{"name": key, "expression": text} for key, text in VARIABLES.items()],
        "validations": [{"expression": text, "message": message, "reason": "Forbidden"} for text, message in rules],
    }
    binding = {"policyName": name, "validationActions": ["Deny"]}
    meta = {"metadata": {"name": name}}
    return [(POLICIES, {**meta, "spec": spec}), (BINDINGS, {**meta, "spec": binding})]
