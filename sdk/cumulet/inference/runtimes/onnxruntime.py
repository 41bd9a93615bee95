"""ONNX Runtime. Its packages have no provider for the GPUs of these boards."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime

from cumulet.core.errors import TargetError, UsageError
from cumulet.inference.runtimes import Tensor

if TYPE_CHECKING:
    from cumulet.inference.runtimes import Arrays


class Model:
    """A model in an inference session."""

    def __init__(self, session: Any) -> None:
        self.session = session
        self.inputs = tuple(_describe(each) for each in session.get_inputs())
        self.outputs = tuple(_describe(each) for each in session.get_outputs())

    def run(self, arrays: Arrays) -> dict[str, Any]:
        """One inference."""
        values = self.session.run(None, dict(arrays))
        return {tensor.name: value for tensor, value in zip(self.outputs, values, strict=True)}

    def close(self) -> None:
        """Let go of the session."""
        self.session = None


def load(path: Path, *, gpu: bool, threads: int) -> Model:
    """Open an ONNX file. Raises TargetError if the GPU is asked for."""
    if gpu:
        raise TargetError("onnxruntime: has no provider for Vulkan", hint="provider='cpu', or a model for ncnn")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
    options.log_severity_level = 3
    try:
        return Model(onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
    except Exception as error:  # its errors have no common class but this one
        raise UsageError(f"{path}: onnxruntime refuses it: {_first_line(error)}") from error


def _describe(value: Any) -> Tensor:
    return Tensor(value.name, tuple(size if isinstance(size, int) else 0 for size in value.shape))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
