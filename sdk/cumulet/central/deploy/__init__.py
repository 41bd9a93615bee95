"""Tasks from the centre: a profile becomes a deployment, and the sites say how it is there.

`objects` makes placement and replica set of a profile, `training` lets a job on the hub's cluster make the model,
`status` reads what came back, `act` does all of it at a hub's API server. What lies at a cluster is a `Task`, which
`cumulet.dispatch` makes run there.
"""

from cumulet.central.deploy.act import (
    deploy_task,
    list_deployments,
    read_deployment,
    remove_deployment,
    wait_until_gone,
)
from cumulet.central.deploy.objects import Where, make_deployment, make_site_needs
from cumulet.central.deploy.status import DeploymentStatus
from cumulet.central.deploy.training import Trained, train

__all__ = [
    "DeploymentStatus",
    "Trained",
    "Where",
    "deploy_task",
    "list_deployments",
    "make_deployment",
    "make_site_needs",
    "read_deployment",
    "remove_deployment",
    "train",
    "wait_until_gone",
]
