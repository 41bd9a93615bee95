"""How few nodes any way of keeping the rule must have: what a plan is held against."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from cumulet.packing.model import Amounts, Room

STEPS = 20
"""Up to so many containers on a node, their number is counted too and not only their size."""


def find_bound(needs: Sequence[Amounts], rooms: Sequence[Room], full: int = 100) -> int:
    """The fewest of `rooms` that have a task at the end, those that have one already included.

    `needs` share nodes; whole nodes are to be added by the caller. More than there are: they cannot have room.
    """
    if not needs:
        return sum(not room.idle for room in rooms)
    busy = [_left(room, full) for room in rooms if not room.idle]
    idle = [_left(room, full) for room in rooms if room.idle]
    volume = max(
        _by_volume([each.cpu for each in needs], [each.cpu for each in busy], [each.cpu for each in idle]),
        _by_volume([each.gpu for each in needs], [each.gpu for each in busy], [each.gpu for each in idle]),
        _by_volume([each.memory for each in needs], [each.memory for each in busy], [each.memory for each in idle]),
    )
    if busy or not idle:
        return volume
    most = Amounts(max(each.cpu for each in idle), max(each.gpu for each in idle), max(each.memory for each in idle))
    return max(
        volume,
        _by_count([each.cpu for each in needs], most.cpu),
        _by_count([each.gpu for each in needs], most.gpu),
        _by_count([each.memory for each in needs], most.memory),
    )


def _left(room: Room, full: int) -> Amounts:
    return room.size.percent(full).less(room.used)


def _by_volume(needs: Sequence[int], busy: Sequence[int], idle: Sequence[int]) -> int:
    """Busy nodes, and the fewest idle ones that have all of it together."""
    missing = sum(needs) - sum(busy)
    if missing <= 0:
        return len(busy)
    sums = list(accumulate(sorted(idle, reverse=True)))
    enough = next((count for count, have in enumerate(sums, 1) if have >= missing), len(idle) + 1)
    return len(busy) + enough


def _by_count(needs: Sequence[int], size: int) -> int:
    """Dual feasible functions of Fekete and Schepers: six of 17 % have no room on one node, whatever their sum is.

    For k, a need x of a node counts as floor((k + 1) x) / k, or as x where that is whole; no set of needs that a
    node has room for counts more than one node.
    """
    if not size:
        return 0
    best = 0
    for k in range(1, STEPS + 1):
        # In units of 1 / (k * size), so that no rounding of fractions can make the bound too high.
        total = 0
        for need in needs:
            whole, rest = divmod(need * (k + 1), size)
            total += whole * size if rest else need * k
        best = max(best, -(-total // (k * size)))
    return best
