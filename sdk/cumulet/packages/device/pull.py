"""Bringing a blob here from the first source that has it, going on at the byte where an earlier try ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cumulet.core.errors import TargetError
from cumulet.packages.device.chunks import Part, WrongChunkError
from cumulet.packages.device.client import BrokenError, RefusedError
from cumulet.packages.device.sources import Source

PASSING = (408, 429, 500, 502, 503, 504)
"""Answers of a server that may say something else in a moment."""
TELL_EVERY = 1.0


@dataclass(frozen=True)
class Effort:
    """How hard to try: seconds without a new byte until it is given up, and the pause between tries."""

    patience: float = 60.0
    pause: float = 0.5


def pull(part: Part, sources: Sequence[Source], effort: Effort, tell: Callable[[Part], None]) -> None:
    """Bring what is missing of a blob. Raises TargetError that says how far it came and why it went no further."""
    left = list(sources)
    wrong: set[str] = set()
    reason: TargetError = RefusedError(f"{part.blob.name}: nobody has it", 404)
    until = time.monotonic() + effort.patience
    while not part.whole:
        before = part.length
        for source in list(left):
            try:
                _copy(source, part, tell)
                reason = BrokenError(f"{source.name}: the connection broke")
            except WrongChunkError as error:
                # Once it may have been the end of an earlier try, torn by a power cut; twice it is the source.
                reason = WrongChunkError(part.blob, error.number)
                reason.message = f"{error.message}; it came from {source.name}"
                if source.name in wrong:
                    left.remove(source)
                wrong.add(source.name)
            except RefusedError as error:
                reason = error
                if error.status not in PASSING:
                    left.remove(source)
            except BrokenError as error:
                reason = error
            if part.whole or part.length > before:
                break
        if part.length > before:
            until = time.monotonic() + effort.patience
        elif not left or time.monotonic() > until:
            raise _give_up(part, reason)
        else:
            time.sleep(effort.pause)


def _copy(source: Source, part: Part, tell: Callable[[Part], None]) -> None:
    told = time.monotonic()
    for data in source.read_blob(part.blob.sha256, part.length):
        part.write(data)
        if time.monotonic() > told + TELL_EVERY:
            told = time.monotonic()
            tell(part)


def _give_up(part: Part, reason: TargetError) -> TargetError:
    if isinstance(reason, WrongChunkError):
        return reason
    hint = reason.hint or "run the same command again: it goes on at that byte"
    return TargetError(
        f"{part.blob.name}: ended at byte {part.length} of {part.blob.size}: {reason.message}", hint=hint
    )
