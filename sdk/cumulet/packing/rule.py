"""The packing rule: share a node, have one to itself, or be spread over several. Pure, with a reason for everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from cumulet.packing.board import Board
from cumulet.packing.bound import find_bound
from cumulet.packing.idle import Idle
from cumulet.packing.model import NAMES, Amounts, Decision, Kind, Limits, Need, Plan, Room, find_standard
from cumulet.packing.order import list_orders

SHOWN = 8
"""So many busy nodes are named in a reason."""
GOOD = 40
"""An order that needs one node more for each so many is not improved on; less than these, and it is none more."""


def make_plan(
    needs: Sequence[Need], rooms: Sequence[Room], limits: Limits | None = None, *, ordered: bool = False
) -> Plan:
    """Where every container belongs. `ordered`: they are started as they come, and no better order is looked for.

    Whole nodes are given first, the biggest needs before smaller ones; then those that share fill what is left,
    always the fullest node that still has room. Started in the order of the plan's decisions, the scheduler does
    the same.
    """
    limits = limits or Limits()
    standard = find_standard(rooms)
    wants = list(needs)
    if not ordered:
        wants.sort(key=lambda need: (-max(need.amounts.shares_of(standard).values()), need.name))
    kinds = {need.name: classify(need, rooms, standard, limits) for need in wants}
    hall = _Hall(rooms, standard, limits)
    decisions = [hall.refuse(need) for need in wants if kinds[need.name] == "refused"]
    decisions += [hall.give_whole(need, "super") for need in wants if kinds[need.name] == "super"]
    decisions += [hall.give_whole(need, "own") for need in wants if kinds[need.name] == "own"]
    bound = hall.whole_nodes
    small = [need for need in wants if kinds[need.name] == "shares"]
    bound += find_bound([need.amounts for need in small], hall.shared, limits.full)
    decisions += hall.share(small, bound, ordered)
    return Plan(tuple(decisions), tuple(hall.rooms.values()), bound)


def classify(need: Need, rooms: Sequence[Room], standard: Amounts, limits: Limits) -> Kind:
    """What the rule makes of a need: `standard` is the size of node that percents are of."""
    shares = need.amounts.shares_of(standard)
    if shares["cpu"] < limits.cpu and shares["gpu"] < limits.gpu and need.amounts.fits(standard):
        return "shares"
    if any(need.amounts.fits(room.size) for room in rooms):
        return "own"
    # Of what no node here has, several nodes have none either.
    missing = any(share == float("inf") for share in shares.values())
    return "super" if need.mergeable and not missing else "refused"


def count_nodes(need: Amounts, size: Amounts) -> int:
    """How many whole nodes of one size a need takes. `size` has some of everything that is needed."""
    pairs = ((need.cpu, size.cpu), (need.gpu, size.gpu), (need.memory, size.memory))
    return max(-(-wanted // have) for wanted, have in pairs if wanted)


class _Hall:
    """The nodes while a plan is made."""

    def __init__(self, rooms: Sequence[Room], standard: Amounts, limits: Limits) -> None:
        self.rooms = {room.name: room for room in rooms}
        self._standard = standard
        self._limits = limits
        self._idle = Idle(rooms, limits)

    @property
    def shared(self) -> list[Room]:
        """The nodes that no task has to itself."""
        return [room for room in self.rooms.values() if not room.whole]

    @property
    def whole_nodes(self) -> int:
        """How many nodes a task has to itself."""
        return sum(bool(room.whole) for room in self.rooms.values())

    def refuse(self, need: Need) -> Decision:
        """A need that no number of nodes meets."""
        shares = need.amounts.shares_of(self._standard)
        missing = [NAMES[name] for name, share in shares.items() if share == float("inf")]
        if missing:
            reason = f"needs {' and '.join(missing)}, and no node here has that"
        else:
            reason = f"{_describe(shares, over=100)}: more than a whole node, and its results cannot be merged"
        return Decision(need, "refused", (), need.amounts, reason)

    def give_whole(self, need: Need, kind: Kind) -> Decision:
        """Whole nodes: one, or as many as it takes."""
        shares = need.amounts.shares_of(self._standard)
        one = kind == "own"
        if one:
            cause, wanted = f"{_describe(shares, self._limits)}: not under the limit", 1
            found = self._idle.take_one(need.amounts)
            chosen = [] if found is None else [found]
        else:
            cause = f"{_describe(shares, over=100)}: more than a whole node"
            wanted = count_nodes(need.amounts, self._standard)
            chosen = self._idle.take_several(need.amounts)
        if not chosen:
            free = self._idle.list_names(need.amounts, one=one)
            reason = f"{cause}, needs {_count(wanted)}, {self._describe_nodes(free)}"
            return Decision(need, "waits", (), need.amounts, reason)
        for room in chosen:
            used = room.used + self._idle.ask(need.amounts, room.size)
            self.rooms[room.name] = replace(room, used=used, whole=need.name)
        names = tuple(room.name for room in chosen)
        place = f"{names[0]} to itself" if one else f"{_count(len(names))}: {', '.join(names)}"
        return Decision(need, kind, names, self._idle.ask(need.amounts, chosen[0].size), f"{cause}, {place}")

    def share(self, needs: Sequence[Need], bound: int, ordered: bool) -> list[Decision]:
        """Nodes that are shared, in the order that needs the fewest."""
        rooms = self.shared
        if not rooms or not needs:
            return [self._wait(need) for need in needs]
        best: list[tuple[Need, int | None]] = []
        fewest = (len(needs) + 1, 0)
        enough = bound + bound // GOOD - self.whole_nodes
        for order in [list(needs)] if ordered else list_orders(needs, self._standard, enough):
            placed = _simulate(order, rooms, self._limits)
            busy = {number for _, number in placed if number is not None}
            score = (sum(number is None for _, number in placed), len(busy))
            if score < fewest:
                best, fewest = placed, score
            if fewest[0] == 0 and fewest[1] <= enough:
                break
        return self._settle(best, rooms)

    def _settle(self, placed: Sequence[tuple[Need, int | None]], rooms: Sequence[Room]) -> list[Decision]:
        used = {number: [room.used.cpu, room.used.gpu, room.used.memory] for number, room in enumerate(rooms)}
        tasks: dict[int, list[str]] = {}
        decisions = []
        causes: dict[Amounts, str] = {}
        for need, number in placed:
            if number is None:
                decisions.append(self._wait(need))
                continue
            if need.amounts not in causes:
                shares = need.amounts.shares_of(self._standard)
                causes[need.amounts] = f"{_describe(shares, pair=True)}: under the limit"
            now = used[number]
            now[0] += need.amounts.cpu
            now[1] += need.amounts.gpu
            now[2] += need.amounts.memory
            tasks.setdefault(number, []).append(need.name)
            room = rooms[number]
            full = max(_percent(now[0], room.size.cpu), _percent(now[1], room.size.gpu))
            reason = f"{causes[need.amounts]}, shares {room.name}, which is {full:.0f} % full then"
            decisions.append(Decision(need, "shares", (room.name,), need.amounts, reason))
        for number, names in tasks.items():
            room = rooms[number]
            self.rooms[room.name] = replace(room, used=Amounts(*used[number]), tasks=(*room.tasks, *names))
        return decisions

    def _wait(self, need: Need) -> Decision:
        shares = need.amounts.shares_of(self._standard)
        reason = f"{_describe(shares, pair=True)}: under the limit, but no node has room for it"
        return Decision(need, "waits", (), need.amounts, reason)

    def _describe_nodes(self, free: Sequence[str]) -> str:
        """Which nodes are free, and what the others are busy with; not more of them than one can read."""
        text = f"{len(free)} free ({_list(free)})" if free else "none is free"
        idle = set(free)
        busy = [f"{room.name} ({_tell(room)})" for room in self.rooms.values() if room.name not in idle]
        return f"{text}; busy: {_list(busy)}" if busy else text


def _simulate(order: Sequence[Need], rooms: Sequence[Room], limits: Limits) -> list[tuple[Need, int | None]]:
    """Each need with the number of the room that the scheduler would put it in."""
    amounts = [need.amounts for need in order]
    least = Amounts(
        min(each.cpu for each in amounts), min(each.gpu for each in amounts), min(each.memory for each in amounts)
    )
    board = Board(rooms, limits, least)
    placed = []
    for need in order:
        number = board.find(need.amounts)
        if number is not None:
            board.take(number, need.amounts)
        placed.append((need, number))
    return placed


def _percent(part: int, whole: int) -> float:
    return 100 * part / whole if whole else 0.0


def _tell(room: Room) -> str:
    """Why a node is not free, in few words."""
    if room.whole:
        return room.whole
    if room.tasks:
        return f"{len(room.tasks)} task{'s' if len(room.tasks) > 1 else ''}"
    return "too small, or not empty"


def _list(words: Sequence[str]) -> str:
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _count(nodes: int) -> str:
    return "a node to itself" if nodes == 1 else f"{nodes} whole nodes"


def _describe(
    shares: Mapping[str, float], limits: Limits | None = None, *, over: float = -1, pair: bool = False
) -> str:
    """The shares that decide: those over a limit, or CPU and GPU as a pair."""
    if pair:
        shown = {name: shares[name] for name in ("cpu", "gpu") if shares[name] or name == "cpu"}
    elif limits is not None:
        least = {"cpu": limits.cpu, "gpu": limits.gpu, "memory": 100}
        shown = {name: share for name, share in shares.items() if share >= least[name]}
    else:
        shown = {name: share for name, share in shares.items() if share > over}
    # A need can be too big for the standard node and yet not be over any percent that decides.
    shown = shown or dict(shares)
    return " and ".join(f"{share:.3g} % of a node's {NAMES[name]}" for name, share in shown.items())
