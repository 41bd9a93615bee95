"""Makes what `classify.py` needs: pictures of three kinds, and a small model that is trained on others of them.

`make_model.py FOLDER` writes FOLDER/pictures/*.npy and FOLDER/model.onnx. The model is a mean over all pixels and one
linear layer, found by least squares; the file is written here, an ONNX model is a protobuf message.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np

KINDS, SIDE, FLOAT = 3, 24, 1


def make_pictures(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy pictures (count, side, side, 3) of u1, one colour of each a little stronger; and which."""
    source = np.random.default_rng(seed)
    kinds = source.integers(0, KINDS, count)
    pictures = source.integers(0, 200, (count, SIDE, SIDE, 3))
    for picture, kind in zip(pictures, kinds, strict=True):
        picture[..., kind] += 40
    return pictures.astype(np.uint8), kinds


def train(pictures: np.ndarray, kinds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights (3, kinds) and biases (kinds) from the mean colour to the kind."""
    means = pictures.reshape(len(pictures), -1, 3).mean(axis=1) / 255
    inputs = np.hstack([means, np.ones((len(means), 1))])
    found, *_ = np.linalg.lstsq(inputs, np.eye(KINDS)[kinds], rcond=None)
    return found[:3].astype(np.float32), found[3].astype(np.float32)


def make_model(weights: np.ndarray, biases: np.ndarray) -> bytes:
    """An ONNX model from pixels (n, 3, height, width) to scores (n, kinds)."""
    nodes = [
        _node("GlobalAveragePool", ["pixels"], "pooled"),
        _node("Flatten", ["pooled"], "means"),
        _node("Gemm", ["means", "weights", "biases"], "scores"),
    ]
    graph = b"".join(_field(1, node) for node in nodes) + _field(2, b"colours")
    graph += _field(5, _tensor("weights", weights)) + _field(5, _tensor("biases", biases))
    graph += _field(11, _value("pixels", ["n", 3, "height", "width"])) + _field(12, _value("scores", ["n", KINDS]))
    return _number(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _number(2, 13))


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    return bytes([*digits, number])


def _number(field: int, number: int) -> bytes:
    return _varint(field << 3) + _varint(number)


def _field(field: int, content: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _node(kind: str, inputs: list[str], output: str) -> bytes:
    return b"".join(_field(1, each.encode()) for each in inputs) + _field(2, output.encode()) + _field(4, kind.encode())


def _tensor(name: str, values: np.ndarray) -> bytes:
    shape = b"".join(_number(1, size) for size in values.shape)
    data = struct.pack(f"<{values.size}f", *values.reshape(-1))
    return shape + _number(2, FLOAT) + _field(8, name.encode()) + _field(9, data)


def _value(name: str, shape: list[int | str]) -> bytes:
    sizes = [_number(1, each) if isinstance(each, int) else _field(2, each.encode()) for each in shape]
    tensor = _number(1, FLOAT) + _field(2, b"".join(_field(1, size) for size in sizes))
    return _field(1, name.encode()) + _field(2, _field(1, tensor))


def main(folder: Path) -> None:
    """Write pictures and model."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    pictures, kinds = make_pictures(60, seed=2)
    for number, (picture, kind) in enumerate(zip(pictures, kinds, strict=True)):
        np.save(folder / f"pictures/{number:03}-{kind}.npy", picture)
    (folder / "model.onnx").write_bytes(make_model(*train(*make_pictures(200, seed=1))))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
