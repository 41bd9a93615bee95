"""ncnn: on the CPU, or with Vulkan. A model is two files, NAME.param and NAME.bin; images have no batch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ncnn
import numpy as np

from cumulet.core.errors import TargetError, UsageError
from cumulet.inference.runtimes import Tensor

if TYPE_CHECKING:
    from cumulet.inference.runtimes import Arrays

MOST_SIZES = 4


class Model:
    """A net with its weights."""

    def __init__(self, net: Any) -> None:
        self.net = net
        self.inputs = tuple(Tensor(name, ()) for name in net.input_names())
        self.outputs = tuple(Tensor(name, ()) for name in net.output_names())

    def run(self, arrays: Arrays) -> dict[str, Any]:
        """One inference. A batch of one is taken for no batch, and given back as none."""
        extractor = self.net.create_extractor()
        held = []
        for name, array in arrays.items():
            values = np.ascontiguousarray(array[0] if array.ndim == MOST_SIZES else array, np.float32)
            held.append(ncnn.Mat(values).clone())
            extractor.input(name, held[-1])
        found = {}
        for tensor in self.outputs:
            code, values = extractor.extract(tensor.name)
            if code != 0:
                raise TargetError(f"ncnn: no result for {tensor.name}: code {code}")
            found[tensor.name] = np.array(values)
        return found

    def close(self) -> None:
        """Let go of weights and device."""
        self.net.clear()


def load(path: Path, *, gpu: bool, threads: int) -> Model:
    """Open NAME.param and NAME.bin beside it. Raises TargetError if there is no Vulkan device."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise UsageError(f"{path}: {weights.name} is not beside it")
    if gpu and ncnn.get_gpu_count() == 0:
        raise TargetError("ncnn: no Vulkan device on this computer", hint="provider='cpu'")
    net = ncnn.Net()
    net.opt.use_vulkan_compute = gpu
    net.opt.num_threads = threads or len(os.sched_getaffinity(0))
    if net.load_param(str(path)) != 0 or net.load_model(str(weights)) != 0:
        raise UsageError(f"{path}: not a model that ncnn reads")
    return Model(net)
