"""How a model comes to a task: as an image volume, or from the store on the node's disk. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from cumulet.core.errors import TargetError

Way = Literal["image", "store"]
IMAGE_COST = 2.0
"""containerd keeps the layer and what was unpacked from it."""
STORE_COST = 1.0
MOST_FOR_IMAGES = 0.4
"""Of the free space: above that two copies would bring the disk near to where the kubelet clears it."""
MOST = 0.9


@dataclass(frozen=True, slots=True)
class Choice:
    """A way, the bytes of disk that it costs, and why."""

    way: Way
    cost: int
    reason: str


def choose_way(size: int, free: int) -> Choice:
    """How a model of `size` bytes is best kept on a disk with `free` bytes. Raises TargetError if it has no room."""
    part = size / free if free > 0 else float("inf")
    if part <= MOST_FOR_IMAGES:
        return Choice("image", int(size * IMAGE_COST), f"it is {part:.0%} of the free space: an image, kept twice")
    if part <= MOST:
        return Choice("store", int(size * STORE_COST), f"it is {part:.0%} of the free space: the store, kept once")
    raise TargetError(
        f"a model of {size >> 20} MiB has no room: {free >> 20} MiB are free",
        hint="cumulet model prune, or a bigger disk",
    )
