"""What a way of flashing gets beside the image: which device, where notes are kept, who is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cumulet_builder.flash.plan import Step


@dataclass(frozen=True, slots=True)
class Surroundings:
    """`device` is what the user named, or empty. `notes` is a folder for what must outlive a kill.

    `restart`: nothing that an interrupted run did counts. `tell` hears of every step as it begins. `patience`: seconds
    that a device may be silent, on top of what its data needs.
    """

    device: str
    notes: Path
    restart: bool = False
    patience: float = 60.0
    tell: Callable[[Step], None] = lambda step: None
