"""What members of super containers do in tests: in a module of its own, so that other processes can import it."""

from __future__ import annotations

import random
import time
from typing import Any

from cumulet.supercontainer import Member
from cumulet.supercontainer.inside.values import CHUNK


def make_part(index: int) -> bytes:
    """Some chunks and a bit."""
    return random.Random(index).randbytes(2 * CHUNK + 100 + index)


def contribute(member: Member) -> None:
    member.contribute(make_part(member.index))


def contribute_number(member: Member) -> None:
    member.contribute(member.index + 1, "sum")


def contribute_shapes(member: Member) -> None:
    member.contribute([1] if member.index < 2 else "text")


def merge_badly(member: Member) -> None:
    def pick(results: Any) -> Any:
        return {each: 1 / (each - 1) for each in results}

    member.contribute(member.index, pick)


def never_report(member: Member) -> None:
    if member.index == 1:
        time.sleep(60)
    member.contribute(1, "sum")


def square(number: int) -> int:
    return number * number


def sum_squares(client: Any) -> int:
    return int(client.submit(sum, client.map(square, range(100))).result())


def distribute(member: Member) -> None:
    member.distribute(sum_squares)
