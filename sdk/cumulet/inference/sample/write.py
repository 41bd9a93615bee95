"""The sample network as files: which of its formats each runtime reads, and how it wants images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from cumulet.inference.sample import ncnn, onnx, tflite
from cumulet.inference.sample.network import make_network

TFLITE = ("litert", "tflite")


def write_sample(runtime: str, folder: Path) -> Path:
    """Write the network for a runtime; gives the file to open."""
    network = make_network()
    if runtime == "ncnn":
        (folder / "sample.bin").write_bytes(ncnn.write_bin(network))
        path, content = folder / "sample.param", ncnn.write_param(network)
    elif runtime in TFLITE:
        path, content = folder / "sample.tflite", tflite.write(network)
    else:
        path, content = folder / "sample.onnx", onnx.write(network)
    path.write_bytes(content)
    return path


def arrange(runtime: str, image: Any) -> Any:
    """One image [channel, height, width] as the runtime's model wants it, a batch of one."""
    whole = image[None]
    return np.ascontiguousarray(whole.transpose(0, 2, 3, 1)) if runtime in TFLITE else whole
