"""Sites under hubs: registration, work, tiers, in the protocol of Open Cluster Management.

`kube` (with `access`, `link`, `informer`, `workqueue`) is a small client of the
Kubernetes API, `protocol` the words of the protocol, `crds` its kinds, `pulse` what a
cluster says of its tasks. `agent` is what runs at a cluster, `hub` what runs at the
place that clusters register at.
"""

from cumulet.central.access import Access, load_access
from cumulet.central.agent.rights import make_agent_rights
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.link import UnreachableError
from cumulet.central.pulse import Pulse, TaskPulse, write_pulse

__all__ = [
    "Access",
    "Informer",
    "Json",
    "Kube",
    "Pulse",
    "Query",
    "RefusedError",
    "Resource",
    "TaskPulse",
    "UnreachableError",
    "load_access",
    "make_agent_rights",
    "write_pulse",
]
