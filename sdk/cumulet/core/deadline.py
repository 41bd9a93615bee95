"""One point in time that a whole operation must not pass, handed down to every wait."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cumulet.core.errors import TargetError


@dataclass(frozen=True, slots=True)
class Deadline:
    """Made by `Deadline.after(seconds)`; measures on the monotonic clock."""

    at: float
    seconds: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """A deadline `seconds` from now."""
        return cls(time.monotonic() + seconds, seconds)

    @property
    def left(self) -> float:
        """Seconds left, never below 0."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        """Whether the point in time is behind us."""
        return self.left == 0.0

    def sleep(self, seconds: float) -> None:
        """Sleep `seconds`, or what is left if that is less."""
        time.sleep(min(seconds, self.left))

    def check(self, what: str) -> None:
        """Raise `TargetError` naming `what` if the deadline has passed."""
        if self.passed:
            raise TargetError(f"{what}: not done within {self.seconds:.0f} s")
