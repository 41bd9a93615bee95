"""The lock of either engine, and its text: what a build goes by so that a later one is identical."""

from __future__ import annotations

import json

from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.engines.yocto.repositories import LayerLock

AnyLock = Lock | LayerLock


def make_lock_text(lock: AnyLock) -> str:
    """The lock as the text of its file, in a stable order."""
    return json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def count_parts(lock: AnyLock) -> dict[str, int]:
    """What a lock names, and how many of each."""
    if isinstance(lock, Lock):
        return {"packages": len(lock.packages), "wheels": len(lock.wheels)}
    return {"repositories": len(lock.repositories)}
