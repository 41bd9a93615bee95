"""The packing rule: who shares, who has a node to itself, who is spread, and how few nodes that takes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import pytest

from cumulet.packing import Amounts, Limits, Need, Plan, Room, classify, count_nodes, find_standard, make_plan

GIB = 1 << 30
SIZE = Amounts(8000, 100, 8 * GIB)
Mix = Callable[[random.Random, int], tuple[float, float, float]]


def make_rooms(count: int, **used: Amounts) -> list[Room]:
    return [Room(f"p{number}", SIZE, used.get(f"p{number}", Amounts())) for number in range(1, count + 1)]


def need(name: str, cpu: float, gpu: float = 0, memory: float = 1, *, mergeable: bool = False) -> Need:
    """A need in percent of a node."""
    return Need(name, Amounts(round(80 * cpu), round(gpu), round(8 * GIB * memory / 100)), mergeable)


def reasons(plan: Plan) -> dict[str, str]:
    return {each.need.name: each.reason for each in plan.decisions}


def test_five_small_ones_share_and_a_big_one_has_its_own_and_a_huge_one_has_three() -> None:
    needs = [*(need(f"small-{number}", 15, 10) for number in range(5)), need("big", 60), need("huge", 250, 30)]
    plan = make_plan([*needs[:-1], Need("huge", needs[-1].amounts, mergeable=True)], make_rooms(6))
    kinds = {each.need.name: (each.kind, len(each.nodes)) for each in plan.decisions}
    assert kinds == {"huge": ("super", 3), "big": ("own", 1), **{f"small-{n}": ("shares", 1) for n in range(5)}}
    assert plan.groups() == {frozenset({"huge"}), frozenset({"big"}), frozenset(f"small-{n}" for n in range(5))}
    assert (plan.busy, plan.bound, plan.waiting) == (5, 5, ())
    assert reasons(plan) == {
        "huge": "250 % of a node's CPU: more than a whole node, 3 whole nodes: p1, p2, p3",
        "big": "60 % of a node's CPU: not under the limit, p4 to itself",
        "small-0": "15 % of a node's CPU and 10 % of a node's GPU: under the limit, shares p5, which is 15 % full then",
        "small-1": "15 % of a node's CPU and 10 % of a node's GPU: under the limit, shares p5, which is 30 % full then",
        "small-2": "15 % of a node's CPU and 10 % of a node's GPU: under the limit, shares p5, which is 45 % full then",
        "small-3": "15 % of a node's CPU and 10 % of a node's GPU: under the limit, shares p5, which is 60 % full then",
        "small-4": "15 % of a node's CPU and 10 % of a node's GPU: under the limit, shares p5, which is 75 % full then",
    }


@pytest.mark.parametrize(
    ("cpu", "gpu", "memory", "mergeable", "kind"),
    [
        (19.9, 19, 10, False, "shares"),
        (20, 0, 10, False, "own"),
        (5, 20, 10, False, "own"),
        (5, 5, 90, False, "shares"),
        (5, 5, 110, False, "refused"),
        (5, 5, 110, True, "super"),
        (100, 100, 100, False, "own"),
        (100.1, 0, 10, False, "refused"),
        (100.1, 0, 10, True, "super"),
        (5, 101, 10, True, "super"),
    ],
)
def test_what_the_rule_makes_of_a_need(cpu: float, gpu: float, memory: float, mergeable: bool, kind: str) -> None:
    wanted = need("task", cpu, gpu, memory, mergeable=mergeable)
    assert classify(wanted, make_rooms(2), SIZE, Limits()) == kind


def test_the_limits_are_settings() -> None:
    wanted = need("task", 30, 30)
    assert classify(wanted, make_rooms(1), SIZE, Limits(cpu=40, gpu=40)) == "shares"
    assert classify(wanted, make_rooms(1), SIZE, Limits(cpu=40, gpu=30)) == "own"
    full = make_plan([need(f"t{number}", 10) for number in range(10)], make_rooms(3), Limits(full=50))
    assert sorted(len(room.tasks) for room in full.rooms) == [0, 5, 5]


def test_a_node_that_is_shared_is_never_over_its_size() -> None:
    chance = random.Random(3)
    needs = [need(f"t{n}", chance.uniform(1, 19), chance.uniform(0, 19), chance.uniform(1, 40)) for n in range(300)]
    plan = make_plan(needs, make_rooms(80, p1=Amounts(500, 0, GIB), p2=Amounts(7000, 0, GIB)))
    sums = {room.name: room.used for room in make_rooms(80, p1=Amounts(500, 0, GIB), p2=Amounts(7000, 0, GIB))}
    for decision in plan.decisions:
        assert decision.kind == "shares"
        sums[decision.nodes[0]] += decision.asks
    assert all(total.fits(SIZE) for total in sums.values())
    assert {room.name: room.used for room in plan.rooms} == sums


def test_the_fullest_node_that_has_room_is_taken_first() -> None:
    rooms = make_rooms(3, p2=Amounts(4000, 0, GIB), p3=Amounts(7500, 0, GIB))
    assert make_plan([need("task", 10)], rooms).decisions[0].nodes == ("p2",)
    assert make_plan([need("task", 5)], rooms).decisions[0].nodes == ("p3",)


def test_tasks_that_are_there_already_count() -> None:
    busy = [Room("p1", SIZE, Amounts(4000, 0, GIB), tasks=("old",)), Room("p2", SIZE, Amounts(100), whole="alone")]
    plan = make_plan([need("own", 50), need("small", 10)], [*busy, Room("p3", SIZE)])
    assert {each.need.name: each.nodes for each in plan.decisions} == {"own": ("p3",), "small": ("p1",)}
    assert (plan.busy, plan.bound) == (3, 3)


def test_what_has_no_place_says_how_many_nodes_are_missing_and_what_the_others_do() -> None:
    rooms = [Room("p1", SIZE, tasks=("a", "b")), Room("p2", SIZE, whole="detect"), Room("p3", SIZE)]
    plan = make_plan([need("huge", 250, mergeable=True)], rooms)
    assert [each.need.name for each in plan.waiting] == ["huge"]
    assert reasons(plan)["huge"] == (
        "250 % of a node's CPU: more than a whole node, needs 3 whole nodes, 1 free (p3);"
        " busy: p1 (2 tasks), p2 (detect)"
    )
    plan = make_plan([need("one", 50), need("two", 50)], rooms)
    assert reasons(plan)["two"] == (
        "50 % of a node's CPU: not under the limit, needs a node to itself, none is free;"
        " busy: p1 (2 tasks), p2 (detect), p3 (one)"
    )
    plan = make_plan([need("small", 19)], [Room("p1", SIZE, Amounts(7000))])
    assert reasons(plan)["small"] == "19 % of a node's CPU: under the limit, but no node has room for it"


def test_what_cannot_be_merged_and_what_nobody_has_is_refused() -> None:
    plan = make_plan([need("huge", 250)], make_rooms(5))
    assert reasons(plan)["huge"] == "250 % of a node's CPU: more than a whole node, and its results cannot be merged"
    without_gpu = [Room("p1", Amounts(8000, 0, 8 * GIB))]
    plan = make_plan([need("task", 5, 5, mergeable=True)], without_gpu)
    assert reasons(plan)["task"] == "needs GPU, and no node here has that"
    assert [each.kind for each in plan.decisions] == ["refused"]


def test_a_whole_node_leaves_room_for_the_nodes_own_programs() -> None:
    decision = make_plan([need("task", 100, 0, 50)], make_rooms(1, p1=Amounts(600, 0, GIB))).decisions[0]
    assert (decision.kind, decision.nodes, decision.asks) == ("own", ("p1",), Amounts(7200, 0, 4 * GIB))


def test_bigger_nodes_count_for_more() -> None:
    big = Room("big", Amounts(16000, 100, 16 * GIB))
    rooms = [big, *make_rooms(4)]
    assert find_standard(rooms) == SIZE
    assert make_plan([need("task", 150)], rooms).decisions[0].nodes == ("big",)
    assert make_plan([need("task", 250, mergeable=True)], rooms).decisions[0].nodes == ("big", "p1")
    assert count_nodes(Amounts(20000, 30, GIB), SIZE) == 3


# Mixes that are hard in one way or another; in all of them the lower bound is near what can be reached.
MIXES: dict[str, Mix] = {
    "two amounts": lambda chance, _: (chance.uniform(1, 19.9), chance.uniform(1, 19), chance.uniform(1, 5)),
    "three amounts": lambda chance, _: (chance.uniform(1, 19.9), chance.uniform(1, 19), chance.uniform(1, 19)),
    "all just under the limit": lambda *_: (19.9, 1, 1),
    "six are a bit too much": lambda *_: (16.8, 1, 1),
    "one wants CPU and the next GPU": lambda _, number: (19, 1, 5) if number % 2 else (1, 19, 5),
    "what one has little of it has much of the other": lambda chance, _: (
        (cpu := chance.uniform(1, 19)),
        20 - cpu,
        5,
    ),
    "one of ten fills half the memory": lambda chance, number: (
        (5, 1, 51) if number % 10 == 0 else (chance.uniform(1, 19), 0, 2)
    ),
    "a quarter wants much memory": lambda chance, number: (
        chance.uniform(1, 10), 0, chance.uniform(5, 60) if number % 4 == 0 else 2,
    ),
    "many tiny ones": lambda chance, _: (chance.choice([1, 2, 3, 19]), 0, 2),
    "sizes that fool biggest-first": lambda chance, _: (
        chance.choice([17.1, 15.7, 12.8, 10.1]), chance.choice([15, 11, 5, 1]), 3,
    ),
    "half of them tiny, the rest big": lambda chance, _: (
        0.1 + min(60, chance.expovariate(0.12)), min(30, chance.expovariate(0.16)), min(90, chance.expovariate(0.14)),
    ),
    "every kind": lambda chance, number: (
        (250, 50, 50) if number % 1000 == 0
        else (60, 20, 10) if number % 50 == 0
        else (chance.uniform(1, 19), chance.uniform(0, 15), chance.uniform(1, 15))
    ),
}  # fmt: skip


def make_mix(mix: Mix, count: int, seed: int) -> list[Need]:
    chance = random.Random(seed)
    return [need(f"t{number:05}", *mix(chance, number), mergeable=True) for number in range(count)]


@pytest.mark.parametrize("name", MIXES)
def test_at_most_a_twentieth_more_nodes_than_the_lower_bound(name: str) -> None:
    plan = make_plan(make_mix(MIXES[name], 2000, 1), make_rooms(700))
    assert plan.waiting == ()
    assert plan.bound <= plan.busy <= 1.05 * plan.bound


def test_ten_thousand_tasks_on_a_thousand_nodes_take_less_than_a_second() -> None:
    """Boards of one kind differ a little in memory, and some run programs of the system."""
    chance = random.Random(5)
    rooms = [
        Room(f"p{n:04}", Amounts(8000, 100, 8 * GIB - chance.randrange(4 << 20)), Amounts(chance.choice([0, 100, 350])))
        for n in range(1000)
    ]
    needs = [need(f"t{n:05}", chance.uniform(1, 15), chance.uniform(0, 15), chance.uniform(1, 14)) for n in range(9975)]
    needs += [need(f"own{n}", 60, 30, 10) for n in range(20)]
    needs += [need(f"huge{n}", 250, 30, 10, mergeable=True) for n in range(5)]
    begin = time.process_time()
    plan = make_plan(needs, rooms)
    assert time.process_time() - begin < 1.0
    assert plan.waiting == ()
    assert plan.busy <= 1.05 * plan.bound


def exact(needs: list[Amounts], size: Amounts, least: int) -> int:
    """The fewest nodes of one size, by trying everything that could be better; none has fewer than `least`."""
    order = sorted(needs, key=lambda each: -max(each.shares_of(size).values()))
    best = len(order)

    def place(index: int, nodes: list[Amounts]) -> None:
        nonlocal best
        if best == least or len(nodes) >= best:
            return
        if index == len(order):
            best = len(nodes)
            return
        tried = set()
        for number, used in enumerate(nodes):
            total = used + order[index]
            # Nodes that are used alike are one choice, not several.
            if used not in tried and total.fits(size):
                tried.add(used)
                place(index + 1, [*nodes[:number], total, *nodes[number + 1 :]])
        place(index + 1, [*nodes, order[index]])

    place(0, [])
    return best


def test_the_exact_solver_finds_what_biggest_first_does_not() -> None:
    half = [Amounts(cpu) for cpu in (30, 30, 40, 40, 50, 50, 60, 60, 40)]
    assert exact(half, Amounts(100), 1) == 4
    assert exact([Amounts(51)] * 4, Amounts(100), 1) == 4


@pytest.mark.parametrize(
    "name", [name for name in MIXES if name not in ("every kind", "half of them tiny, the rest big")]
)
def test_small_mixes_need_as_few_nodes_as_an_exact_solver_finds(name: str) -> None:
    for seed in range(4):
        needs = make_mix(MIXES[name], 24, seed)
        plan = make_plan(needs, make_rooms(12))
        fewest = exact([each.amounts for each in needs], SIZE, plan.bound)
        assert plan.bound <= fewest == plan.busy
