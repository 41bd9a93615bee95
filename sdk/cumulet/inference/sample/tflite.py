"""The sample network as a TFLite file. Numbers of fields and codes are those of TFLite's schema."""

from __future__ import annotations

import numpy as np

from cumulet.inference.sample.flatbuffer import Number, Table, encode
from cumulet.inference.sample.network import (
    CHANNELS,
    CLASSES,
    FIRST,
    INPUT,
    KERNEL,
    OUTPUT,
    SECOND,
    SIZE,
    STRIDE,
    Network,
)

IDENTIFIER, SCHEMA = b"TFL3", 3
# Codes of operators, and of the tables with their options.
MEAN, CONVOLUTION, DENSE, SOFTMAX = 1, 3, 9, 25
MEAN_OPTIONS, CONVOLUTION_OPTIONS, DENSE_OPTIONS, SOFTMAX_OPTIONS = 5, 1, 8, 9
OPERATORS = (CONVOLUTION, MEAN, DENSE, SOFTMAX)
VALID, RELU = 1, 1
# Pixels behind each convolution.
AFTER1 = SIZE - KERNEL + 1
AFTER2 = (AFTER1 - KERNEL) // STRIDE + 1


def write(network: Network) -> bytes:
    """The file's bytes. TFLite has channels last."""
    # name -> (shape, content); the order gives the numbers that operators refer to.
    tensors: dict[str, tuple[tuple[int, ...], np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None]] = {
        INPUT: ((1, SIZE, SIZE, CHANNELS), None),
        "conv1": ((FIRST, KERNEL, KERNEL, CHANNELS), network.conv1.transpose(0, 2, 3, 1)),
        "bias1": ((FIRST,), network.bias1),
        "c1": ((1, AFTER1, AFTER1, FIRST), None),
        "conv2": ((SECOND, KERNEL, KERNEL, FIRST), network.conv2.transpose(0, 2, 3, 1)),
        "bias2": ((SECOND,), network.bias2),
        "c2": ((1, AFTER2, AFTER2, SECOND), None),
        "mean": ((1, 1, 1, SECOND), None),
        "dense": ((CLASSES, SECOND), network.dense),
        "bias3": ((CLASSES,), network.bias3),
        "scores": ((1, CLASSES), None),
        OUTPUT: ((1, CLASSES), None),
    }
    names = list(tensors)
    buffers = [Table({})]
    rows = []
    for name, (shape, content) in tensors.items():
        if content is not None:
            buffers.append(Table({0: np.ascontiguousarray(content, "<f4").tobytes()}))
        rows.append(Table({0: shape, 2: Number("I", len(buffers) - 1 if content is not None else 0), 3: name}))
    graph = Table(
        {
            0: rows,
            1: [names.index(INPUT)],
            2: [names.index(OUTPUT)],
            3: _make_operators(names),
            4: "main",
        }
    )
    codes = [Table({0: Number("b", code), 2: Number("i", 1), 3: Number("i", code)}) for code in OPERATORS]
    model = Table({0: Number("I", SCHEMA), 1: codes, 2: [graph], 3: "cumulet", 4: buffers})
    return encode(model, IDENTIFIER)


def _make_operators(names: list[str]) -> list[Table]:
    def make(code: int, inputs: tuple[str, ...], output: str, kind: int, options: Table) -> Table:
        return Table(
            {
                0: Number("I", OPERATORS.index(code)),
                1: [names.index(name) for name in inputs],
                2: [names.index(output)],
                3: Number("B", kind),
                4: options,
            }
        )

    whole = Number("i", AFTER2)
    mean = Table({0: Number("b", VALID), 1: Number("i", 1), 2: Number("i", 1), 3: whole, 4: whole})
    return [
        make(CONVOLUTION, (INPUT, "conv1", "bias1"), "c1", CONVOLUTION_OPTIONS, _make_convolution(1)),
        make(CONVOLUTION, ("c1", "conv2", "bias2"), "c2", CONVOLUTION_OPTIONS, _make_convolution(STRIDE)),
        make(MEAN, ("c2",), "mean", MEAN_OPTIONS, mean),
        make(DENSE, ("mean", "dense", "bias3"), "scores", DENSE_OPTIONS, Table({})),
        make(SOFTMAX, ("scores",), OUTPUT, SOFTMAX_OPTIONS, Table({0: Number("f", 1.0)})),
    ]


def _make_convolution(stride: int) -> Table:
    step = Number("i", stride)
    one = Number("i", 1)
    return Table({0: Number("b", VALID), 1: step, 2: step, 3: Number("b", RELU), 4: one, 5: one})
