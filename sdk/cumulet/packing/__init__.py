"""Which tasks share a node, which have one to themselves, which are spread over several: the rule, as pure functions.

`rule` decides, `board` fills nodes as the scheduler does, `order` finds the order in which to start, `bound` says
how few nodes it can be at all. Placement itself is the scheduler's; what makes it do the same is in `scheduling`.
"""

from cumulet.packing.model import Amounts, Decision, Kind, Limits, Need, Plan, Room, find_standard
from cumulet.packing.rule import classify, count_nodes, make_plan
from cumulet.packing.scheduling import (
    PLACE_LABEL,
    TASK_LABEL,
    find_differences,
    make_labels,
    make_placement,
    make_resources,
    name_containers,
)

__all__ = [
    "PLACE_LABEL",
    "TASK_LABEL",
    "Amounts",
    "Decision",
    "Kind",
    "Limits",
    "Need",
    "Plan",
    "Room",
    "classify",
    "count_nodes",
    "find_differences",
    "find_standard",
    "make_labels",
    "make_placement",
    "make_plan",
    "make_resources",
    "name_containers",
]
