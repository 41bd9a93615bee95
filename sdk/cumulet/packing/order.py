"""In which order containers that share are started, so that the fullest-first way of the scheduler needs few nodes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cumulet.packing.model import Amounts, Need

Share = tuple[float, float, float]
Cell = tuple[int, int, int]
FINENESS = (16, 12, 8, 6, 4, 3, 2, 1)
CELLS = 100
"""Containers that need about the same are looked at as one kind, so that there are not more kinds than this."""
BIGNESS = (0.8, 0.5, 0.0)
"""How much it counts against a container that it is big: none of these is the best for every mix."""


def list_orders(needs: Sequence[Need], size: Amounts, enough: int) -> Iterator[list[Need]]:
    """Orders worth trying, the most promising first.

    `size` is that of the nodes that they are to fill, `enough` a number of them that cannot be improved on much.
    """
    whole = (size.cpu or 1, size.gpu or 1, size.memory or 1)
    shares = [
        (each.amounts.cpu / whole[0], each.amounts.gpu / whole[1], each.amounts.memory / whole[2]) for each in needs
    ]
    fewest, best = len(needs) + 1, list(range(len(needs)))
    for bigness in BIGNESS:
        nodes, order = _order_by_node(shares, bigness)
        if nodes < fewest:
            fewest, best = nodes, order
        if fewest <= enough:
            break
    yield [needs[place] for place in best]
    yield [needs[place] for place in _order_by_size(shares)]


def _order_by_size(shares: Sequence[Share]) -> list[int]:
    """The biggest first: what is small fills the gaps at the end."""
    return sorted(range(len(shares)), key=lambda place: (-max(shares[place]), -sum(shares[place]), place))


def _order_by_node(shares: Sequence[Share], bigness: float) -> tuple[int, list[int]]:
    """Node by node, so that each is used as all of them will be on average; and how many nodes that makes.

    If the tasks together need twice as much CPU as GPU, every node is filled that way: one that needs much CPU and
    one that needs much GPU come to lie beside each other.
    """
    cells = _make_cells(shares)
    tops = {cell: _weigh(shares[places[-1]], bigness) for cell, places in cells.items()}
    demand = [sum(share[index] for share in shares) for index in range(3)]
    order: list[int] = []
    nodes = 0
    while cells:
        nodes += 1
        begin = len(order)
        most = max(demand) or 1.0
        goal = [each / most for each in demand]
        used = [0.0, 0.0, 0.0]
        while (cell := _pick(tops, used, goal)) is not None:
            place = cells[cell].pop()
            for index, share in enumerate(shares[place]):
                used[index] += share
                demand[index] -= share
            order.append(place)
            if cells[cell]:
                tops[cell] = _weigh(shares[cells[cell][-1]], bigness)
            else:
                del cells[cell], tops[cell]
        if len(order) == begin:
            # Not even an empty node of this size has room for what is left: a bigger one may.
            rest = [place for places in cells.values() for place in places]
            return nodes + len(rest), order + rest
    return nodes, order


def _make_cells(shares: Sequence[Share]) -> dict[Cell, list[int]]:
    """Containers by about what they need, the biggest of a cell last."""
    by_size = sorted(range(len(shares)), key=lambda place: (sum(shares[place]), -place))
    cells: dict[Cell, list[int]] = {}
    for fineness in FINENESS:
        cells = {}
        # What shares a node needs little CPU and GPU, but may need much memory.
        steps = (5 * fineness, 5 * fineness, fineness)
        for place in by_size:
            cpu, gpu, memory = shares[place]
            cells.setdefault((int(cpu * steps[0]), int(gpu * steps[1]), int(memory * steps[2])), []).append(place)
        if len(cells) <= CELLS:
            break
    return cells


def _weigh(share: Share, bigness: float) -> tuple[float, float, float, float]:
    return (*share, sum(each * each for each in share) ** (bigness / 2) or 1.0)


def _pick(
    tops: dict[Cell, tuple[float, float, float, float]], used: Sequence[float], goal: Sequence[float]
) -> Cell | None:
    """The cell whose biggest container brings a node nearest to its goal; None if none has room."""
    free_cpu, free_gpu, free_memory = (1.0 + 1e-12 - each for each in used)
    want_cpu, want_gpu, want_memory = (wanted - each for wanted, each in zip(goal, used, strict=True))
    best, found = float("-inf"), None
    for cell, (cpu, gpu, memory, weight) in tops.items():
        if cpu <= free_cpu and gpu <= free_gpu and memory <= free_memory:
            gain = (cpu * want_cpu + gpu * want_gpu + memory * want_memory) / weight
            if gain > best:
                best, found = gain, cell
    return found
