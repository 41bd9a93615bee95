"""Sites under hubs: registration, work, tiers, in the protocol of Open Cluster Management.

`kube` (with `access`, `link`, `informer`, `workqueue`) is a small client of the
Kubernetes API, `protocol` the words of the protocol, `crds` its kinds, `pulse` what a
cluster says of its tasks. `agent` is what runs at a cluster, `hub` what runs at the
place that clusters register at, `deploy` sends tasks from there to sites.
"""

import importlib
from typing import TYPE_CHECKING

from cumulet.central.access import Access, load_access
from cumulet.central.agent.rights import make_agent_rights
from cumulet.central.informer import Informer
from cumulet.central.kube import Json, Kube, Query, RefusedError, Resource
from cumulet.central.link import UnreachableError
from cumulet.central.pulse import Pulse, TaskPulse, write_pulse

if TYPE_CHECKING:
    from cumulet.central.deploy import (
        DeploymentStatus,
        Trained,
        Where,
        deploy_task,
        list_deployments,
        make_deployment,
        make_site_needs,
        read_deployment,
        remove_deployment,
        train,
        wait_until_gone,
    )

# An agent has to stay small, and has no use for the documents of tasks: they are loaded when they are asked for.
_LATER = (
    "DeploymentStatus", "Trained", "Where", "deploy_task", "list_deployments", "make_deployment", "make_site_needs",
    "read_deployment", "remove_deployment", "train", "wait_until_gone",
)  # fmt: skip
__all__ = [
    "Access",
    "DeploymentStatus",
    "Informer",
    "Json",
    "Kube",
    "Pulse",
    "Query",
    "RefusedError",
    "Resource",
    "TaskPulse",
    "Trained",
    "UnreachableError",
    "Where",
    "deploy_task",
    "list_deployments",
    "load_access",
    "make_agent_rights",
    "make_deployment",
    "make_site_needs",
    "read_deployment",
    "remove_deployment",
    "train",
    "wait_until_gone",
    "write_pulse",
]


def __getattr__(name: str) -> object:
    """What is slow to import, on its first use."""
    if name in _LATER:
        return getattr(importlib.import_module("cumulet.central.deploy"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
