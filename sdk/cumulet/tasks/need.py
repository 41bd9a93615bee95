"""What a task asks of a node: its profile in absolute amounts, for each of its containers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cumulet.core.quantities import parse_size
from cumulet.packing import Amounts, Need
from cumulet.tasks.profile import Measured, TaskProfile

HEADROOM = 1.1
"""What was measured once will be a little more another time."""


def make_amounts(profile: TaskProfile, standard: Amounts) -> Amounts:
    """What one container needs. `standard` is the size of node that declared percents are of."""
    found = profile.measured
    cpu = math.ceil(round(profile.cpu / 100 * standard.cpu, 6))
    gpu, memory = profile.gpu, parse_size(profile.memory)
    if found is not None:
        cpu = max(1, math.ceil(round(found.cpu * HEADROOM / 100 * found.cpus * 1000, 6)))
        memory = max(1 << 20, math.ceil(round(parse_size(found.memory) * HEADROOM, 3)))
        gpu = found.gpu * HEADROOM if found.gpu_seen else gpu
    # Kubernetes knows whole units only.
    return Amounts(cpu, math.ceil(round(gpu, 6)), memory)


def make_needs(profiles: Sequence[TaskProfile], standard: Amounts, times: int = 1) -> list[Need]:
    """One need for each container: `detect`, or `detect-1`, `detect-2` if there are several. `times`: of each task."""
    needs = []
    for profile in profiles:
        amounts = make_amounts(profile, standard)
        count = profile.replicas.least * times
        if count == 1:
            needs.append(Need(profile.task, amounts, profile.mergeable))
            continue
        digits = len(str(count))
        for number in range(1, count + 1):
            needs.append(Need(f"{profile.task}-{number:0{digits}}", amounts, profile.mergeable))
    return needs


def describe_correction(profile: TaskProfile, measured: Measured) -> list[str]:
    """What was measured beside what was declared, where they differ by more than a tenth."""
    lines = []
    pairs = [("CPU", profile.cpu, measured.cpu), ("GPU", profile.gpu, measured.gpu)]
    for name, declared, found in pairs if measured.gpu_seen else pairs[:1]:
        if abs(declared - found) > max(declared, found) / 10:
            lines.append(f"{name}: {declared:g} % was declared, {found:.3g} % was measured")
    declared_memory, found_memory = parse_size(profile.memory), parse_size(measured.memory)
    if abs(declared_memory - found_memory) > max(declared_memory, found_memory) / 10:
        lines.append(f"memory: {profile.memory} was declared, {measured.memory} was measured")
    return lines
