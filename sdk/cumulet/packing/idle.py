"""Nodes without a task, to be given away whole: to one task, or several of them to one that needs more than a node."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cumulet.packing.model import Amounts, Limits, Room

Alike = tuple[Amounts, Amounts]
"""Size, and what is used of it: rooms that are alike in both are looked at once."""


class Idle:
    """The idle ones of some rooms. Every way of taking one away gives the room itself."""

    def __init__(self, rooms: Sequence[Room], limits: Limits) -> None:
        self._limits = limits
        self._kinds: dict[Alike, dict[str, Room]] = {}
        for room in rooms:
            if room.idle:
                self._kinds.setdefault((room.size, room.used), {})[room.name] = room

    def ask(self, need: Amounts, size: Amounts) -> Amounts:
        """What a task reserves of a node that it has to itself: the node's own programs must have room too."""
        return need.at_most(size.percent(100 - self._limits.reserve))

    def take_one(self, need: Amounts) -> Room | None:
        """The room that would be the fullest with it: the one that the scheduler takes."""
        best: tuple[float, str] | None = None
        found: Alike | None = None
        for alike, rooms in self._kinds.items():
            size, used = alike
            if not rooms or not need.fits(size) or not self._has_room(need, alike):
                continue
            left = size.less(used).less(self.ask(need, size))
            emptiness = left.cpu / (size.cpu or 1) + left.memory / (size.memory or 1)
            emptiness += left.gpu / size.gpu if need.gpu else 0.0
            key = (emptiness, next(iter(rooms)))
            if best is None or key < best:
                best, found = key, alike
        return self._pop(found) if found is not None else None

    def take_several(self, need: Amounts) -> list[Room]:
        """The biggest rooms that have it together; none if all of them have not."""
        have, chosen = Amounts(), []
        for room in self._by_size(need):
            have += room.size
            chosen.append(room)
            if need.fits(have):
                for each in chosen:
                    del self._kinds[each.size, each.used][each.name]
                return chosen
        return []

    def list_names(self, need: Amounts, *, one: bool) -> list[str]:
        """The rooms that could be taken now, by `take_one` or by `take_several`."""
        return [room.name for room in self._by_size(need) if not one or need.fits(room.size)]

    def _by_size(self, need: Amounts) -> Iterator[Room]:
        able = [alike for alike in self._kinds if self._has_room(need, alike)]
        for alike in sorted(able, key=lambda alike: (-alike[0].cpu, -alike[0].memory, -alike[1].cpu)):
            yield from list(self._kinds[alike].values())

    def _has_room(self, need: Amounts, alike: Alike) -> bool:
        size, used = alike
        return self.ask(need, size).fits(size.less(used))

    def _pop(self, alike: Alike) -> Room:
        rooms = self._kinds[alike]
        return rooms.pop(next(iter(rooms)))
