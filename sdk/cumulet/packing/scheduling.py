"""What makes the scheduler keep the rule: requests, and who may not lie beside whom. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from cumulet.core.notes import GPU_RESOURCE
from cumulet.kubernetes import PACKING_SCHEDULER
from cumulet.packing.model import Amounts, Decision, Kind, Plan

TASK_LABEL: Final = "cumulet.dev/task"
"""On every container of a task: the task's name."""
PLACE_LABEL: Final = "cumulet.dev/place"
"""`shares` or `whole`."""
GONE_SECONDS: Final = 30
"""After so long without a sign of its node a container is started elsewhere."""


def make_labels(task: str, kind: Kind) -> dict[str, str]:
    """The labels by which containers of tasks keep away from each other."""
    return {TASK_LABEL: task, PLACE_LABEL: "shares" if kind == "shares" else "whole"}


def make_resources(asks: Amounts, memory: int) -> dict[str, dict[str, str]]:
    """Requests, by which the scheduler counts; limits where going over them would hurt others.

    CPU has no limit: the kernel shares what is left over by what was asked for. `memory` is the most, in bytes.
    """
    requests = {"cpu": f"{asks.cpu}m", "memory": f"{-(-asks.memory // 1024)}Ki"}
    limits = {"memory": f"{-(-memory // 1024)}Ki"}
    if asks.gpu:
        # Kubernetes wants both to be the same for what is counted in pieces.
        requests[GPU_RESOURCE] = limits[GPU_RESOURCE] = str(asks.gpu)
    return {"requests": requests, "limits": limits}


def make_placement(kind: Kind) -> dict[str, Any]:
    """The parts of a pod's spec that decide where it goes."""
    tolerations = [
        {"key": f"node.kubernetes.io/{key}", "operator": "Exists", "effect": "NoExecute"}
        for key in ("not-ready", "unreachable")
    ]
    spec: dict[str, Any] = {
        "schedulerName": PACKING_SCHEDULER,
        "tolerations": [{**each, "tolerationSeconds": GONE_SECONDS} for each in tolerations],
    }
    if kind != "shares":
        # The scheduler holds it in both directions: nobody comes to a node where such a one already is.
        term = {
            "labelSelector": {"matchExpressions": [{"key": TASK_LABEL, "operator": "Exists"}]},
            "namespaceSelector": {},
            "topologyKey": "kubernetes.io/hostname",
        }
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return spec


def find_differences(plan: Plan, places: Mapping[str, str], tasks: Mapping[str, str] | None = None) -> list[str]:
    """Where the scheduler did not do what was planned, as lines to read; none if it did.

    `places`: container -> node, for those that run. `tasks`: container -> task, because containers of one task are
    alike. Nodes of one size are alike too: what counts is who is with whom.
    """
    planned = {name: node for each in plan.decisions if each.placed for name, node in name_containers(each).items()}
    lines = [f"{name} was planned and runs nowhere" for name in sorted(set(planned) - set(places))]
    lines += [f"{name} runs on {places[name]} and was not planned" for name in sorted(set(places) - set(planned))]
    if lines:
        return lines
    names = tasks or {}
    missing = _group(planned, names) - _group(places, names)
    found = _group(places, names) - _group(planned, names)
    together = "; ".join(", ".join(group) for group in sorted(found.elements()))
    return [f"planned on one node: {', '.join(group)}; found: {together}" for group in sorted(missing.elements())]


def name_containers(decision: Decision) -> dict[str, str]:
    """The containers of a decision with their nodes: its own name, or `huge-0`, `huge-1` for a super container."""
    if decision.kind != "super":
        return {decision.need.name: decision.nodes[0]}
    return {f"{decision.need.name}-{index}": node for index, node in enumerate(decision.nodes)}


def _group(places: Mapping[str, str], tasks: Mapping[str, str]) -> Counter[tuple[str, ...]]:
    """Who is on one node together, by task, and how often."""
    members: dict[str, list[str]] = {}
    for name, node in places.items():
        members.setdefault(node, []).append(tasks.get(name, name))
    return Counter(tuple(sorted(names)) for names in members.values())
