"""Which GPUs there are and how their hundredths are handed out. Pure, but for looking into /dev/dri."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ENDPOINT: Final = "cumulet-gpu.sock"
UNITS: Final = 100
DRI: Final = Path("/dev/dri")
PERCENT: Final = "CUMULET_GPU_PERCENT"
"""What a container is told of its share."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU by its render node, such as renderD128."""

    name: str
    path: Path

    @property
    def units(self) -> list[str]:
        """The names of its hundredths."""
        return [f"{self.name}-{number:02}" for number in range(UNITS)]


def find_gpus(folder: Path = DRI) -> tuple[Gpu, ...]:
    """The render nodes of this computer, in the order of their numbers."""
    return tuple(Gpu(path.name, path) for path in sorted(folder.glob("renderD*")))


def gpu_of(unit: str) -> str:
    """The GPU that a hundredth belongs to."""
    return unit.rpartition("-")[0]


def choose_units(available: Sequence[str], needed: Iterable[str], size: int) -> list[str]:
    """Which hundredths to hand out: of one GPU, the fullest on which they fit, so that others stay whole.

    What must be among them comes first. If no GPU has enough, they come from several, the fullest first.
    """
    chosen = list(needed)
    rest = sorted(set(available) - set(chosen))
    free = Counter(gpu_of(unit) for unit in rest)
    missing = size - len(chosen)
    begun = [gpu_of(unit) for unit in chosen]
    order = sorted(free, key=lambda gpu: (gpu not in begun, free[gpu] < missing, free[gpu], gpu))
    ranked = [unit for gpu in order for unit in rest if gpu_of(unit) == gpu]
    return [*chosen, *ranked[:missing]]
