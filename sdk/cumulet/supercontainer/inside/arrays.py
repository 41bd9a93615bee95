"""Merges of arrays, a piece at a time. numpy is imported here, and only for tasks that contribute arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from cumulet.supercontainer.inside.values import Meta, map_array

if TYPE_CHECKING:
    from cumulet.supercontainer.inside.spool import Stored

PIECE: Final = 1 << 18
"""Elements that are in memory of each part at once."""
Write = Callable[[memoryview], None]


def add(parts: Sequence[Stored], write: Write, *, mean: bool) -> Meta:
    """Element by element, in the order of the members: ((0 + 1) + 2) + 3."""
    import numpy as np  # noqa: PLC0415 - heavy, and most tasks need not have it

    found = [_flat(part) for part in parts]
    kind = found[0].dtype if not mean else np.result_type(found[0].dtype, np.float32)
    for start in range(0, len(found[0]), PIECE):
        total = found[0][start : start + PIECE].astype(kind)
        for each in found[1:]:
            total += each[start : start + PIECE]
        if mean:
            total /= len(parts)
        _write(total, write)
    return Meta("array", np.dtype(kind).str, parts[0].meta.shape)


def argmax(parts: Sequence[Stored], write: Write) -> Meta:
    """Where the highest is along the last axis, if all parts were one behind the other there."""
    import numpy as np  # noqa: PLC0415 - as above

    found = [map_array(part.meta, part.path).reshape(-1, part.meta.shape[-1]) for part in parts]
    rows = max(1, PIECE // max(1, sum(each.shape[1] for each in found)))
    for start in range(0, len(found[0]), rows):
        together = np.concatenate([each[start : start + rows] for each in found], axis=1)
        _write(together.argmax(axis=1).astype("<i8"), write)
    return Meta("array", "<i8", parts[0].meta.shape[:-1])


def _flat(part: Stored) -> Any:
    return map_array(part.meta, part.path).reshape(-1)


def _write(values: Any, write: Write) -> None:
    if values.size:
        write(memoryview(values.reshape(-1).view("u1")))
