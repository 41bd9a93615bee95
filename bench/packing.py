"""How long a plan for 10,000 tasks on 1,000 nodes takes, and how many more nodes it needs than any way must.

.venv/bin/python bench/packing.py
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from cumulet.packing import Amounts, Need, Room, make_plan

GIB = 1 << 30
TASKS, NODES = 10_000, 1_000
Shares = tuple[float, float, float]
MIXES: dict[str, Callable[[random.Random, int], Shares]] = {
    "CPU and GPU, any size": lambda chance, _: (chance.uniform(1, 18), chance.uniform(0, 18), 4),
    "CPU, GPU and memory, any size": lambda chance, _: (
        chance.uniform(1, 18), chance.uniform(0, 18), chance.uniform(1, 18),
    ),
    "half want CPU, half want GPU": lambda _, number: (18, 1, 4) if number % 2 else (1, 18, 4),
    "what has little CPU has much GPU": lambda chance, _: ((cpu := chance.uniform(1, 17)), 18 - cpu, 4),
    "a quarter wants much memory": lambda chance, number: (
        chance.uniform(1, 10), 0, chance.uniform(5, 60) if number % 4 == 0 else 2,
    ),
    "every kind": lambda chance, number: (
        (250, 50, 50) if number % 1000 == 0
        else (60, 20, 10) if number % 100 == 0
        else (chance.uniform(1, 15), chance.uniform(0, 12), chance.uniform(1, 12))
    ),
}  # fmt: skip


def main() -> None:
    """One line for each mix."""
    rooms = [Room(f"p{number:04}", Amounts(8000, 100, 8 * GIB)) for number in range(NODES)]
    for name, mix in MIXES.items():
        chance = random.Random(1)
        needs = []
        for number in range(TASKS):
            cpu, gpu, memory = mix(chance, number)
            amounts = Amounts(round(80 * cpu), round(gpu), round(8 * GIB * memory / 100))
            needs.append(Need(f"t{number:05}", amounts, mergeable=True))
        begin = time.perf_counter()
        plan = make_plan(needs, rooms)
        seconds = time.perf_counter() - begin
        waiting = f", {len(plan.waiting)} wait" if plan.waiting else f", {plan.excess:.1%} more"
        print(f"{name:<34} {seconds:5.2f} s  {plan.busy:4} nodes, at least {plan.bound}{waiting}")


if __name__ == "__main__":
    main()
