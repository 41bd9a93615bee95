"""The one error tree of Cumulet.

    CumuletError          exit code 1 (never raised itself)
    +-- UsageError        2   what the user wrote or asked for is wrong
    +-- ToolError         3   this computer lacks something, or a program failed
    +-- TargetError       4   the image, board or site that was worked on is wrong

Anything else that escapes is a bug of ours: exit code 1 and a traceback in the
log. An interrupt ends with 130. Only `cumulet.cli` prints and exits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a document, with its place.

    `line` and `column` count from 1; 0 means that the place is not known.
    """

    file: str
    line: int
    column: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        text = f"{place}: {self.message}"
        return f"{text}\n  {self.hint}" if self.hint else text


class CumuletError(Exception):
    """Base of every error that Cumulet expects.

    `message` says what is (file or host, thing, value); `hint` says what to do:
    one command or one setting.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def report(self) -> str:
        """The lines for a person who has started one of the SDK's own programs."""
        problems = getattr(self, "problems", ())
        more = "".join(f"\n  {each}" for each in problems) if len(problems) > 1 else ""
        return f"error: {self.message}{more}\n" + (f"hint: {self.hint}\n" if self.hint else "")


class UsageError(CumuletError):
    """A document, an option or a request is wrong. Carries every problem found."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[Problem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class ToolError(CumuletError):
    """This computer lacks something, or a program or transfer failed."""

    exit_code = 3


class TargetError(CumuletError):
    """The image, board or site that was worked on is wrong."""

    exit_code = 4
