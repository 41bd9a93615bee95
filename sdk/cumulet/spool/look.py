"""How full a tier's folder of results is, seen from outside: its process alone has the spool."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path("/var/lib/cumulet/results")


@dataclass(frozen=True, slots=True)
class Waiting:
    """Results that wait to go up and their bytes, those that have arrived from below, damaged ones set aside.

    `oldest`: when the oldest of those that wait was put there, in seconds since 1970.
    """

    waiting: int = 0
    waiting_bytes: int = 0
    arrived: int = 0
    broken: int = 0
    oldest: float | None = None


def look_at(folder: Path = FOLDER) -> Waiting:
    """What lies in a tier's folder; nothing if there is none. What leaves meanwhile does not count."""
    found: list[os.stat_result] = []
    for path in (folder / "spool/entries").glob("*/data"):
        with contextlib.suppress(FileNotFoundError):
            found.append(path.stat())
    return Waiting(
        len(found),
        sum(each.st_size for each in found),
        sum(1 for _ in (folder / "inbox/arrived").glob("*")),
        sum(1 for _ in (folder / "spool/broken").glob("*")),
        min((each.st_mtime for each in found), default=None),
    )
