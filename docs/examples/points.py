"""A Dask job on several nodes: points thrown at a square, counted where they hit the quarter of a circle in it.

`points.py` needs numpy and distributed in the container's image. Each piece has a seed of its own, so that it is the
same wherever it is computed: the result is that of one node.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from distributed import Client

PIECES, POINTS = 48, 50_000


def count_hits(seed: int) -> int:
    """How many points of one piece are in the circle."""
    points = np.random.default_rng(seed).random((POINTS, 2))
    return int((np.square(points).sum(axis=1) < 1).sum())


def count_all(client: Client) -> dict[str, object]:
    """How many of all pieces; and who has worked."""
    hits = client.submit(sum, client.map(count_hits, range(PIECES))).result()
    workers = sorted(set(client.run(socket.gethostname).values()))
    return {"hits": hits, "points": PIECES * POINTS, "workers": workers}


def main() -> None:
    """One member's part: on the merging one `count_all` runs, the others are its workers."""
    from cumulet.supercontainer import member  # noqa: PLC0415 - only there in a super container

    member.distribute(count_all)


if __name__ == "__main__":
    main()
