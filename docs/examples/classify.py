"""A folder of pictures on several nodes: each member classifies its share, the result is one table.

`classify.py FOLDER MODEL`: FOLDER has arrays of pixels (`*.npy`, as (height, width, 3) of u1), MODEL is an ONNX model
from (n, 3, height, width) floats to (n, classes). Needs numpy and onnxruntime in the container's image.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

BATCH = 32


def read_pictures(paths: list[Path]) -> np.ndarray:
    """Pictures as the model wants them."""
    pixels = np.stack([np.load(path) for path in paths]).astype(np.float32) / 255
    return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2))


def classify(paths: list[Path], model: Path) -> list[list[object]]:
    """File name and number of the class of each picture."""
    import onnxruntime  # noqa: PLC0415 - heavy

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    rows: list[list[object]] = []
    for start in range(0, len(paths), BATCH):
        some = paths[start : start + BATCH]
        scores = session.run(None, {name: read_pictures(some)})[0]
        rows += [[path.name, int(best)] for path, best in zip(some, scores.argmax(axis=1), strict=True)]
    return rows


def main(folder: Path, model: Path) -> None:
    """One member's part."""
    from cumulet.supercontainer import member  # noqa: PLC0415 - only there in a super container

    member.contribute(classify(member.shard(sorted(folder.glob("*.npy"))), model))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
