"""What a node says of itself in the cluster: its annotations and its GPU, by names that writers and readers share."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

PREFIX: Final = "edge.cumulet.dev/"
GPU_RESOURCE: Final = "cumulet.dev/gpu-percent"
"""The node's GPU in hundredths, offered by the device plugin, asked for by tasks."""


class NodeNote(StrEnum):
    """An annotation. The self-test writes the first three, the GPU's device plugin the fourth."""

    RENDERER = f"{PREFIX}renderer"
    """What the driver calls the GPU."""
    GPU_SPEED = f"{PREFIX}gpu-speed"
    """Inferences a second of the self-test's model on the GPU, in the fastest runtime that may use it."""
    RUNTIMES = f"{PREFIX}runtimes"
    """Inference runtimes that gave right answers, with commas between them."""
    GPU_BUSY = f"{PREFIX}gpu-busy"
    """Percent of the time that the GPU's busiest engine works."""
    MBIT = f"{PREFIX}mbit"
    """Megabits a second to the other nodes; whoever has measured it may write it."""
    MILLISECONDS = f"{PREFIX}milliseconds"
    """How long the way to the other nodes takes; as above."""


def read_number(notes: Mapping[str, str], note: NodeNote) -> float:
    """The number that an annotation holds; 0 if there is none, or what is there is no number of use."""
    try:
        found = float(notes.get(note, "0"))
    except ValueError:
        return 0.0
    return found if 0 < found < float("inf") else 0.0


def read_list(notes: Mapping[str, str], note: NodeNote) -> tuple[str, ...]:
    """The words that an annotation holds."""
    return tuple(word for each in notes.get(note, "").split(",") if (word := each.strip()))
