"""Sites under hubs: registration, work, tiers, in the protocol of Open Cluster Management.

`kube` (with `access`, `link`, `informer`, `workqueue`) is a small client of the
Kubernetes API, `protocol` the words of the protocol, `crds` its kinds. `agent` is what
runs at a cluster, `hub` what runs at the place that clusters register at.
"""

from cumulet.central.access import Access, load_access
from cumulet.central.agent.rights import make_agent_rights
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.link import UnreachableError

__all__ = [
    "Access",
    "Informer",
    "Json",
    "Kube",
    "Query",
    "RefusedError",
    "Resource",
    "UnreachableError",
    "load_access",
    "make_agent_rights",
]
