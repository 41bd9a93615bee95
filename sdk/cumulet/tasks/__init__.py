"""AI tasks: their profiles, the profile of the edge that they run on, and what becomes of them in a cluster.

`profile` and `edge` are the documents, `need` turns percents into amounts, `cluster` reads a live edge, `manifests`
makes Kubernetes objects, `submit` starts them in the order of their plan, `measure` watches one while it runs.
"""

from cumulet.tasks.cluster import find_absence, make_edge, read_edge
from cumulet.tasks.edge import EdgeNode, EdgeProfile, find_free_space, imagine, load_edge, write_edge
from cumulet.tasks.manifests import (
    make_autoscaler,
    make_lone_pod,
    make_model_source,
    make_volumes,
    make_workload,
    scales,
)
from cumulet.tasks.measure import correct, measure
from cumulet.tasks.need import describe_correction, make_amounts, make_needs
from cumulet.tasks.profile import Check, Measured, TaskProfile, load_profile, make_profile, parse_profile, write_profile
from cumulet.tasks.reach import Device, Reached, reach
from cumulet.tasks.resident import ApiObject, Resident, install_resident, make_account, make_rights, make_secret
from cumulet.tasks.submit import Spread, Submitted, apply, plan_tasks, read_places, read_pods, start_task, submit

__all__ = [
    "ApiObject",
    "Check",
    "Device",
    "EdgeNode",
    "EdgeProfile",
    "Measured",
    "Reached",
    "Resident",
    "Spread",
    "Submitted",
    "TaskProfile",
    "apply",
    "correct",
    "describe_correction",
    "find_absence",
    "find_free_space",
    "imagine",
    "install_resident",
    "load_edge",
    "load_profile",
    "make_account",
    "make_amounts",
    "make_autoscaler",
    "make_edge",
    "make_lone_pod",
    "make_model_source",
    "make_needs",
    "make_profile",
    "make_rights",
    "make_secret",
    "make_volumes",
    "make_workload",
    "measure",
    "parse_profile",
    "plan_tasks",
    "reach",
    "read_edge",
    "read_places",
    "read_pods",
    "scales",
    "start_task",
    "submit",
    "write_edge",
    "write_profile",
]
