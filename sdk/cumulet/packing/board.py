"""Nodes while they are filled: always the fullest one that still has room, as the scheduler's MostAllocated does."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import islice

from cumulet.packing.model import Amounts, Limits, Room

Size = tuple[int, int, int]


class Board:
    """Rooms by number. Those that are alike in size are kept in the order of how full they are."""

    def __init__(self, rooms: Sequence[Room], limits: Limits, least: Amounts) -> None:
        """`least`: no container that is to come needs less of anything."""
        classes: dict[Size, _Alike] = {}
        for number, room in enumerate(rooms):
            size = room.size.percent(limits.full)
            classes.setdefault(_round(size), _Alike(least)).add(number, size, size.less(room.used))
        self._classes = list(classes.values())
        self._home = {number: alike for alike in self._classes for number in alike.left}

    def find(self, need: Amounts) -> int | None:
        """The number of the room that would be the fullest with it; None if there is none with room for it."""
        found = [alike.find(need) for alike in self._classes]
        return min((each for each in found if each is not None), default=(0.0, None))[1]

    def take(self, number: int, need: Amounts) -> None:
        """Take it away from what is left in a room."""
        self._home[number].take(number, need)


class _Alike:
    """Rooms of about one size. Two orders: as a container that wants a GPU sees them, and as others do."""

    def __init__(self, least: Amounts) -> None:
        self._least = least
        self.left: dict[int, Size] = {}
        self._sizes: dict[int, Size] = {}
        self._plain: list[tuple[float, int]] = []
        self._gpu: list[tuple[float, int]] = []
        self._most: Size = (1, 1, 1)

    def add(self, number: int, size: Amounts, left: Amounts) -> None:
        self._sizes[number] = (size.cpu, size.gpu, size.memory)
        self.left[number] = (left.cpu, left.gpu, left.memory)
        cpu, gpu, memory = self._most
        self._most = (max(cpu, size.cpu), max(gpu, size.gpu), max(memory, size.memory))
        self._insert(number)

    def find(self, need: Amounts) -> tuple[float, int] | None:
        """(how free it is with it, number) of the best room."""
        cpu, gpu, memory = need.cpu, need.gpu, need.memory
        most_cpu, most_gpu, most_memory = self._most
        order = self._gpu if gpu else self._plain
        least = cpu / most_cpu + memory / most_memory + (gpu / most_gpu if gpu else 0.0)
        left = self.left
        # What is left of all amounts together must be enough before each of them can be.
        for key, number in islice(order, bisect_left(order, (least - 1e-9, -1)), None):
            have_cpu, have_gpu, have_memory = left[number]
            if cpu <= have_cpu and memory <= have_memory and gpu <= have_gpu:
                return key - least, number
        return None

    def take(self, number: int, need: Amounts) -> None:
        cpu, gpu, memory = self.left[number]
        self._remove(number)
        self.left[number] = (cpu - need.cpu, gpu - need.gpu, memory - need.memory)
        self._insert(number)

    def _keys(self, number: int) -> tuple[float, float]:
        cpu, gpu, memory = self.left[number]
        size_cpu, size_gpu, size_memory = self._sizes[number]
        plain = cpu / (size_cpu or 1) + memory / (size_memory or 1)
        return plain, plain + gpu / (size_gpu or 1)

    def _insert(self, number: int) -> None:
        left = self.left[number]
        if left[0] < self._least.cpu or left[1] < self._least.gpu or left[2] < self._least.memory:
            # Full: it is not looked at any more.
            return
        plain, gpu = self._keys(number)
        insort(self._plain, (plain, number))
        insort(self._gpu, (gpu, number))

    def _remove(self, number: int) -> None:
        plain, gpu = self._keys(number)
        del self._plain[bisect_left(self._plain, (plain, number))]
        del self._gpu[bisect_left(self._gpu, (gpu, number))]


def _round(size: Amounts) -> Size:
    """Sizes that differ by some percent are as good as equal: 1000 boards must not be 1000 kinds."""
    return _two_digits(size.cpu), size.gpu, _two_digits(size.memory)


def _two_digits(value: int) -> int:
    shift = max(0, value.bit_length() - 5)
    return value >> shift << shift
