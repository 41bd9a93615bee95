"""A product of matrices on several nodes, the same to the last bit as on one.

Rows come in blocks of a fixed height, so that each block is multiplied by the same instructions wherever it is.
"""

from __future__ import annotations

import numpy as np

BLOCK, SIDE = 64, 1024


def make_block(left: np.ndarray, right: np.ndarray, block: int) -> np.ndarray:
    """The rows of one block of the product."""
    return np.ascontiguousarray(left[block * BLOCK : (block + 1) * BLOCK]) @ right


def make_rows(blocks: range) -> np.ndarray:
    """The rows of some blocks of the product."""
    source = np.random.default_rng(7)
    left, right = source.random((SIDE, SIDE)), source.random((SIDE, SIDE))
    return np.concatenate([make_block(left, right, block) for block in blocks] or [np.empty((0, SIDE))])


def main() -> None:
    """One member's part."""
    from cumulet.supercontainer import member  # noqa: PLC0415 - only there in a super container

    member.contribute(make_rows(member.shard(range(SIDE // BLOCK))))


if __name__ == "__main__":
    main()
