"""What the packing rule speaks of: amounts, needs, rooms, limits, decisions. All of them values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["shares", "own", "super", "waits", "refused"]
NAMES = {"cpu": "CPU", "gpu": "GPU", "memory": "memory"}


@dataclass(frozen=True, slots=True)
class Amounts:
    """`cpu` in thousandths of a processor, `gpu` in hundredths of a GPU, `memory` in bytes."""

    cpu: int = 0
    gpu: int = 0
    memory: int = 0

    def __add__(self, other: Amounts) -> Amounts:
        return Amounts(self.cpu + other.cpu, self.gpu + other.gpu, self.memory + other.memory)

    def fits(self, room: Amounts) -> bool:
        """Whether all of this is there in `room`."""
        return self.cpu <= room.cpu and self.gpu <= room.gpu and self.memory <= room.memory

    def less(self, other: Amounts) -> Amounts:
        """What is left of this when `other` is taken; never below 0."""
        return Amounts(max(0, self.cpu - other.cpu), max(0, self.gpu - other.gpu), max(0, self.memory - other.memory))

    def at_most(self, other: Amounts) -> Amounts:
        """The smaller of both, amount by amount."""
        return Amounts(min(self.cpu, other.cpu), min(self.gpu, other.gpu), min(self.memory, other.memory))

    def percent(self, percent: int) -> Amounts:
        """So many hundredths of this, rounded down."""
        return Amounts(self.cpu * percent // 100, self.gpu * percent // 100, self.memory * percent // 100)

    def shares_of(self, size: Amounts) -> dict[str, float]:
        """Percent of a node of this size, by name; a GPU that is wanted where there is none is infinite."""
        pairs = ((self.cpu, size.cpu), (self.gpu, size.gpu), (self.memory, size.memory))
        values = [100 * need / have if have else (float("inf") if need else 0.0) for need, have in pairs]
        return dict(zip(NAMES, values, strict=True))


@dataclass(frozen=True, slots=True)
class Need:
    """One container of a task. `mergeable`: its work may be spread over several nodes and the results merged."""

    name: str
    amounts: Amounts
    mergeable: bool = False


@dataclass(frozen=True, slots=True)
class Room:
    """A node: what it has, and what is taken of it, by the tasks that are named and by everything else."""

    name: str
    size: Amounts
    used: Amounts = Amounts()
    tasks: tuple[str, ...] = ()
    """The tasks that share it."""
    whole: str = ""
    """The task that has it to itself."""

    @property
    def free(self) -> Amounts:
        """What is left."""
        return self.size.less(self.used)

    @property
    def idle(self) -> bool:
        """Whether no task runs here; what belongs to the system does not count."""
        return not self.tasks and not self.whole


@dataclass(frozen=True, slots=True)
class Limits:
    """The thresholds of the rule, in percent of a node."""

    cpu: int = 20
    """Tasks that use less than this of a node's CPU may share it, if the same holds for the GPU."""
    gpu: int = 20
    full: int = 100
    """What tasks that share may use of a node together."""
    reserve: int = 10
    """What a task that has a whole node does not ask for, because the node's own programs need it."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What is to become of one container, on which nodes, and why. `asks` is what it reserves on each of them."""

    need: Need
    kind: Kind
    nodes: tuple[str, ...]
    asks: Amounts
    reason: str

    @property
    def placed(self) -> bool:
        """Whether it has a place."""
        return self.kind not in ("waits", "refused")


@dataclass(frozen=True, slots=True)
class Plan:
    """All decisions, in the order in which the containers are to be started, and the nodes as they are then.

    `bound`: no way to keep the rule has fewer nodes with tasks on them.
    """

    decisions: tuple[Decision, ...]
    rooms: tuple[Room, ...]
    bound: int

    @property
    def busy(self) -> int:
        """How many nodes have a task."""
        return sum(not room.idle for room in self.rooms)

    @property
    def excess(self) -> float:
        """How many more nodes than the lower bound, as a part of it."""
        return self.busy / self.bound - 1 if self.bound else 0.0

    @property
    def waiting(self) -> tuple[Decision, ...]:
        """Those that have no place."""
        return tuple(each for each in self.decisions if not each.placed)

    def groups(self) -> set[frozenset[str]]:
        """The containers that are on one node together, without the node's name; equal nodes are all the same."""
        members: dict[str, set[str]] = {}
        for each in self.decisions:
            for node in each.nodes:
                members.setdefault(node, set()).add(each.need.name)
        return {frozenset(names) for names in members.values()}


def find_standard(rooms: Sequence[Room]) -> Amounts:
    """The size that most nodes have, the bigger one of two that are as frequent: what percents are percents of."""
    counts: dict[tuple[int, int, int], list[Room]] = {}
    for room in rooms:
        # Boards of one kind differ by some kilobytes of memory.
        key = (round(room.size.cpu / 100), room.size.gpu, round(room.size.memory / (64 << 20)))
        counts.setdefault(key, []).append(room)
    if not counts:
        return Amounts()
    frequent = max(counts.items(), key=lambda item: (len(item[1]), item[0]))[1]
    return min((room.size for room in frequent), key=lambda size: (size.memory, size.cpu))
