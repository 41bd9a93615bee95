"""The sample network as the two files of ncnn: the layers as text, and the weights."""

from __future__ import annotations

import struct

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

MAGIC = 7767517
# Before weights that are stored as they are.
PLAIN = struct.pack("<I", 0)


def write_param(network: Network) -> bytes:
    """The layers. Numbers before '=' are those of ncnn's parameters."""
    conv = f"1={KERNEL} 5=1 9=1"
    layers = [
        f"Input data 0 1 {INPUT} 0={SIZE} 1={SIZE} 2={CHANNELS}",
        f"Convolution conv1 1 1 {INPUT} c1 0={FIRST} 3=1 6={network.conv1.size} {conv}",
        f"Convolution conv2 1 1 c1 c2 0={SECOND} 3={STRIDE} 6={network.conv2.size} {conv}",
        "Pooling mean 1 1 c2 mean 0=1 4=1",
        f"InnerProduct dense 1 1 mean scores 0={CLASSES} 1=1 2={network.dense.size}",
        f"Softmax softmax 1 1 scores {OUTPUT} 0=0 1=1",
    ]
    return "\n".join([str(MAGIC), f"{len(layers)} {len(layers)}", *layers, ""]).encode()


def write_bin(network: Network) -> bytes:
    """The weights in the order of the layers."""
    pairs = (
        (network.conv1, network.bias1),
        (network.conv2, network.bias2),
        (network.dense, network.bias3),
    )
    return b"".join(PLAIN + weights.astype("<f4").tobytes() + bias.astype("<f4").tobytes() for weights, bias in pairs)
