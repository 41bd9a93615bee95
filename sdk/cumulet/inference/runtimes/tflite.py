"""TFLite models on the CPU: the interpreter of tflite-runtime, and the same one inside ai-edge-litert."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cumulet.core.errors import TargetError, UsageError
from cumulet.inference.runtimes import Tensor

if TYPE_CHECKING:
    from cumulet.inference.runtimes import Arrays


class Model:
    """A model in an interpreter."""

    def __init__(self, interpreter: Any) -> None:
        self.interpreter = interpreter
        self._ins = interpreter.get_input_details()
        self._outs = interpreter.get_output_details()
        self.inputs = tuple(_describe(each) for each in self._ins)
        self.outputs = tuple(_describe(each) for each in self._outs)

    def run(self, arrays: Arrays) -> dict[str, Any]:
        """One inference."""
        for each in self._ins:
            self.interpreter.set_tensor(each["index"], arrays[each["name"]])
        self.interpreter.invoke()
        return {each["name"]: self.interpreter.get_tensor(each["index"]) for each in self._outs}

    def close(self) -> None:
        """Let go of the interpreter."""
        self.interpreter = None


def load(path: Path, *, gpu: bool, threads: int) -> Model:
    """Open a TFLite file with tflite-runtime. Raises TargetError if the GPU is asked for."""
    if gpu:
        raise TargetError("tflite: its package has no delegate for GPUs", hint="provider='cpu', or ai-edge-litert")
    from tflite_runtime.interpreter import Interpreter  # noqa: PLC0415 - not where ai-edge-litert is

    return load_with(Interpreter, path, threads)


def load_with(interpreter: Any, path: Path, threads: int) -> Model:
    """Open a TFLite file with a class of interpreters. Raises UsageError for a file that it refuses."""
    try:
        made = interpreter(model_path=str(path), num_threads=threads or len(os.sched_getaffinity(0)))
        made.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        raise UsageError(f"{path}: not a model that TFLite reads: {str(error).splitlines()[0][:200]}") from error
    return Model(made)


def _describe(details: Any) -> Tensor:
    return Tensor(details["name"], tuple(int(size) for size in details["shape"]))
