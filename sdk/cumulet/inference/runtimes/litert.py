"""LiteRT (ai-edge-litert): its interpreter on the CPU, a compiled model on its WebGPU accelerator."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from cumulet.core.errors import TargetError
from cumulet.inference.runtimes import tflite

if TYPE_CHECKING:
    from cumulet.inference.runtimes import Arrays


class Compiled:
    """A model on the accelerator. Shapes are asked of the interpreter, which reads the same file."""

    def __init__(self, model: Any, shapes: tflite.Model) -> None:
        self.model = model
        self.inputs, self.outputs = shapes.inputs, shapes.outputs
        (signature,) = model.get_signature_list().values()
        self._names = signature["inputs"], signature["outputs"]
        self._ins, self._outs = model.create_input_buffers(0), model.create_output_buffers(0)

    def run(self, arrays: Arrays) -> dict[str, Any]:
        """One inference, in single precision."""
        for name, buffer in zip(self._names[0], self._ins, strict=True):
            buffer.write(np.ascontiguousarray(arrays[name], np.float32))
        self.model.run_by_index(0, self._ins, self._outs)
        shapes = {tensor.name: tensor.shape for tensor in self.outputs}
        return {
            name: buffer.read(int(np.prod(shapes[name])), np.float32).reshape(shapes[name])
            for name, buffer in zip(self._names[1], self._outs, strict=True)
        }

    def close(self) -> None:
        """Let go of the accelerator."""
        self._ins = self._outs = self.model = None


def load(path: Path, *, gpu: bool, threads: int) -> tflite.Model | Compiled:
    """Open a TFLite file. Raises TargetError if the accelerator cannot take the whole of it."""
    plain = tflite.load_with(Interpreter, path, threads)
    if not gpu:
        return plain
    from ai_edge_litert.compiled_model import CompiledModel  # noqa: PLC0415 - starts drivers
    from ai_edge_litert.hardware_accelerator import HardwareAccelerator  # noqa: PLC0415

    try:
        # The GPU alone: a model that silently ran on the CPU would be measured as the GPU.
        model = CompiledModel.from_file(str(path), hardware_accel=HardwareAccelerator.GPU)
    except RuntimeError as error:
        text = str(error).strip().splitlines()[-1].lstrip("└ ")
        raise TargetError(f"litert: the GPU accelerator does not take {path.name}: {text}") from error
    return Compiled(model, plain)
