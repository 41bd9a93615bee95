"""What a site and its tasks use now, from the metrics of the cluster. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from cumulet.core.api import Json
from cumulet.core.notes import NodeNote, read_number
from cumulet.core.quantities import parse_quantity
from cumulet.monitor.ring import Bin
from cumulet.packing import TASK_LABEL
from cumulet.tasks import Measured

NODES = "/api/v1/nodes"
NODE_METRICS = "/apis/metrics.k8s.io/v1beta1/nodes"
POD_METRICS = "/apis/metrics.k8s.io/v1beta1/pods"
USUAL = 0.95
"""A task's need is what it uses in so many of its bins: one lucky or unlucky bin does not count."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class SiteLoad:
    """Percent of all nodes together that have said something."""

    cpu: float
    gpu: float
    memory: float


@dataclass(frozen=True, slots=True)
class TaskUsage:
    """The containers of one task now. `cpu` in thousandths of a processor, `memory` in bytes, each of one container.

    `memory_all` is of all of them together.
    """

    namespace: str
    task: str
    containers: int
    cpu_mean: float
    cpu_most: float
    memory_most: int
    memory_all: int = 0


def sum_load(nodes: Sequence[Json], metrics: Sequence[Json]) -> SiteLoad | None:
    """The load of those nodes that have metrics."""
    sizes = {node["metadata"]["name"]: node for node in nodes}
    have, used = _Sum(), _Sum()
    busy = []
    for each in metrics:
        node = sizes.get(each["metadata"]["name"])
        if node is None:
            continue
        have.add(node["status"]["allocatable"])
        used.add(each["usage"])
        notes = node["metadata"].get("annotations", {})
        if NodeNote.GPU_BUSY in notes:
            busy.append(min(100.0, read_number(notes, NodeNote.GPU_BUSY)))
    if not have.cpu or not have.memory:
        return None
    gpu = sum(busy) / len(busy) if busy else 0.0
    return SiteLoad(float(100 * used.cpu / have.cpu), gpu, float(100 * used.memory / have.memory))


def sum_usage(items: Sequence[Json]) -> list[TaskUsage]:
    """The usage of every task, from the metrics of its pods."""
    tasks: dict[tuple[str, str], list[_Sum]] = {}
    for item in items:
        meta = item["metadata"]
        task = meta.get("labels", {}).get(TASK_LABEL)
        if task is None:
            continue
        total = _Sum()
        for container in item.get("containers", []):
            total.add(container["usage"])
        tasks.setdefault((meta["namespace"], task), []).append(total)
    return [
        TaskUsage(
            namespace,
            task,
            len(pods),
            float(sum(pod.cpu for pod in pods) * 1000 / len(pods)),
            float(max(pod.cpu for pod in pods) * 1000),
            int(max(pod.memory for pod in pods)),
            int(sum(pod.memory for pod in pods)),
        )
        for (namespace, task), pods in sorted(tasks.items())
    ]


def make_measured(bins: Sequence[Bin], cpus: int, node: str = "") -> Measured | None:
    """What a task's kept usage says of its need, as percent of a node with so many processors; None without usage."""
    seen = [each for each in bins if each.values[3] > 0]
    if not seen:
        return None
    cpu = sorted(each.values[1] for each in seen)[math.ceil(USUAL * len(seen)) - 1]
    memory = max(each.values[2] for each in seen)
    return Measured(
        cpu=round(cpu / 10 / cpus, 2),
        memory=f"{max(1, math.ceil(memory))}MiB",
        cpus=cpus,
        node=node,
        seconds=len(seen) * 300,
    )


class _Sum:
    def __init__(self) -> None:
        self.cpu = self.memory = Fraction(0)

    def add(self, amounts: Mapping[str, str]) -> None:
        self.cpu += parse_quantity(amounts.get("cpu", "0"))
        self.memory += parse_quantity(amounts.get("memory", "0"))
