"""The sample network as an ONNX file. Numbers of fields are those of onnx.proto3."""

from __future__ import annotations

from cumulet.inference.sample.network import CHANNELS, CLASSES, INPUT, OUTPUT, SIZE, STRIDE, Floats, Network
from cumulet.inference.sample.protobuf import encode

IR_VERSION, OPERATORS = 8, 13
FLOAT = 1
# Kinds of attributes.
INT, INTS = 2, 7


def write(network: Network) -> bytes:
    """The file's bytes."""
    graph = encode(
        (1, _make_nodes()),
        (2, "sample"),
        (5, [_make_tensor(name, getattr(network, name)) for name in network.__slots__]),
        (11, _make_value(INPUT, (1, CHANNELS, SIZE, SIZE))),
        (12, _make_value(OUTPUT, (1, CLASSES))),
    )
    return encode((1, IR_VERSION), (2, "cumulet"), (7, graph), (8, encode((2, OPERATORS))))


def _make_nodes() -> list[bytes]:
    return [
        _make_node("Conv", (INPUT, "conv1", "bias1"), "c1"),
        _make_node("Relu", ("c1",), "r1"),
        _make_node(
            "Conv", ("r1", "conv2", "bias2"), "c2", encode((1, "strides"), (8, STRIDE), (8, STRIDE), (20, INTS))
        ),
        _make_node("Relu", ("c2",), "r2"),
        _make_node("GlobalAveragePool", ("r2",), "mean"),
        _make_node("Flatten", ("mean",), "flat"),
        _make_node("Gemm", ("flat", "dense", "bias3"), "scores", encode((1, "transB"), (3, 1), (20, INT))),
        _make_node("Softmax", ("scores",), OUTPUT),
    ]


def _make_node(kind: str, inputs: tuple[str, ...], output: str, *attributes: bytes) -> bytes:
    words = [(1, name) for name in inputs]
    return encode(*words, (2, output), (3, output), (4, kind), (5, attributes))


def _make_tensor(name: str, values: Floats) -> bytes:
    sizes = [(1, size) for size in values.shape]
    return encode(*sizes, (2, FLOAT), (8, name), (9, values.astype("<f4").tobytes()))


def _make_value(name: str, shape: tuple[int, ...]) -> bytes:
    sizes = encode((1, [encode((1, size)) for size in shape]))
    return encode((1, name), (2, encode((1, encode((1, FLOAT), (2, sizes))))))
