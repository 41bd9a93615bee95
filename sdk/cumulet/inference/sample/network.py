"""The sample network: weights and inputs from a fixed sequence of numbers, and the right answers to them.

Two convolutions, a mean, a dense layer and a softmax: what GPU drivers get wrong shows in the first two. The
answers are worked out in double precision by numpy, so that neither runtime is judged by the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]
# Pixels, and channels after each layer.
SIZE, CHANNELS, FIRST, SECOND, CLASSES = 64, 3, 16, 32, 10
KERNEL, STRIDE = 3, 2
INPUT, OUTPUT = "input", "output"
IMAGES = 4
# How far the classes lie apart: far enough that one in the wrong place shows, not so far that one has it all.
SHARPNESS = 3.0


@dataclass(frozen=True, slots=True)
class Network:
    """Weights: of convolutions as [out, in, height, width], of the dense layer as [out, in]."""

    conv1: Floats
    bias1: Floats
    conv2: Floats
    bias2: Floats
    dense: Floats
    bias3: Floats


def make_numbers(seed: int, *shape: int) -> Floats:
    """Numbers between -1 and 1 that are the same everywhere: a linear congruential sequence, its upper bits."""
    count = int(np.prod(shape))
    state, found = seed, np.empty(count, np.float32)
    for place in range(count):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        found[place] = (state >> 40) / 2**23 - 1
    return found.reshape(shape)


@cache
def make_network() -> Network:
    """The one network."""
    return Network(
        conv1=make_numbers(1, FIRST, CHANNELS, KERNEL, KERNEL) / np.float32(3),
        bias1=make_numbers(2, FIRST) / np.float32(4),
        conv2=make_numbers(3, SECOND, FIRST, KERNEL, KERNEL) / np.float32(6),
        bias2=make_numbers(4, SECOND) / np.float32(4),
        dense=make_numbers(5, CLASSES, SECOND) * np.float32(SHARPNESS),
        bias3=make_numbers(6, CLASSES),
    )


def make_images() -> Floats:
    """The inputs, as [image, channel, height, width]: waves of other lengths and directions, and some noise."""
    down, across = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE
    waves = [
        np.sin(2 * np.pi * ((image + 1) * down * (channel + 1) + (IMAGES - image) * across))
        for image in range(IMAGES)
        for channel in range(CHANNELS)
    ]
    plain = np.asarray(waves, np.float32).reshape(IMAGES, CHANNELS, SIZE, SIZE)
    noise = make_numbers(7, IMAGES, CHANNELS, 8, 8).repeat(SIZE // 8, axis=2).repeat(SIZE // 8, axis=3)
    return np.asarray(plain / 2 + noise / 2, np.float32)


def make_answers(network: Network, images: Floats) -> npt.NDArray[np.float64]:
    """The right answers, as [image, class], in double precision."""
    answers = []
    for image in images.astype(np.float64):
        seen = _convolve(image, network.conv1, network.bias1, 1)
        seen = _convolve(seen, network.conv2, network.bias2, STRIDE)
        scores = network.dense.astype(np.float64) @ seen.mean(axis=(1, 2)) + network.bias3
        powers = np.exp(scores - scores.max())
        answers.append(powers / powers.sum())
    return np.stack(answers)


def _convolve(image: npt.NDArray[np.float64], weights: Floats, bias: Floats, stride: int) -> npt.NDArray[np.float64]:
    windows = np.lib.stride_tricks.sliding_window_view(image, (KERNEL, KERNEL), axis=(1, 2))[:, ::stride, ::stride]
    sums = np.einsum("cyxhw,ochw->oyx", windows, weights.astype(np.float64)) + bias[:, None, None]
    return np.asarray(np.maximum(sums, 0), np.float64)
