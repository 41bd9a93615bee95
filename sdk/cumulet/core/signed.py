"""What documents that are signed are made of: frozen parts without unknown keys, and texts of one form."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict


def matching(pattern: str, what: str) -> AfterValidator:
    """Refuses a text that is not of a form; `what` says in words what it is then."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is {what}")
        return text

    return AfterValidator(check)


Sha256 = Annotated[str, matching(r"[0-9a-f]{64}", "not a SHA-256")]


class Part(BaseModel):
    """Base of every part of a document: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")
