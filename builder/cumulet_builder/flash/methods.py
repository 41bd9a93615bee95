"""The ways of flashing. Adding one is a module and a line here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cumulet_builder.flash import block, fastboot, uuu
from cumulet_builder.flash.plan import Plan
from cumulet_builder.flash.surroundings import Surroundings
from cumulet_builder.flash.target import FlashTarget, Method


class Way(Protocol):
    """What a module of this folder has. Its facts are its own kind."""

    def find_device(self) -> str:
        """The device that is meant when none is named, or nothing."""

    def probe(self, target: FlashTarget, around: Surroundings) -> Any:
        """Look at the device; changes nothing."""

    def make_plan(self, target: FlashTarget, facts: Any | None) -> Plan:
        """What will be done. Pure."""

    def act(self, target: FlashTarget, plan: Plan, facts: Any, around: Surroundings) -> None:
        """Do it, but for the proof."""

    def verify(self, target: FlashTarget, plan: Plan, facts: Any, around: Surroundings) -> bool:
        """Read back. Whether everything that was written was read back."""


METHODS: Mapping[Method, Way] = {"fastboot": fastboot, "block": block, "uuu": uuu}


def find_way(target: FlashTarget) -> Way:
    """How a target is flashed."""
    return METHODS[target.method]
