"""The inference runtimes, each in a module of its own behind one protocol. Adding one is a module and a line here."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cumulet.core.errors import ToolError, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Arrays = Mapping[str, npt.NDArray[np.generic]]


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of a model. A size of 0 in `shape` is not known before a run; none at all if nothing is."""

    name: str
    shape: tuple[int, ...]


class Loaded(Protocol):
    """A model in a runtime, ready to run on the CPU or on the GPU."""

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What goes in."""

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What comes out."""

    def run(self, arrays: Arrays) -> dict[str, npt.NDArray[np.generic]]:
        """One inference: input name -> array, to output name -> array."""

    def close(self) -> None:
        """Let go of memory and devices."""


@dataclass(frozen=True, slots=True)
class Runtime:
    """Where a runtime is, and which files it reads. `package` is its name among Python's packages."""

    module: str
    package: str
    suffixes: tuple[str, ...]


RUNTIMES: Mapping[str, Runtime] = {
    "onnxruntime": Runtime("cumulet.inference.runtimes.onnxruntime", "onnxruntime", (".onnx",)),
    "litert": Runtime("cumulet.inference.runtimes.litert", "ai-edge-litert", (".tflite",)),
    "ncnn": Runtime("cumulet.inference.runtimes.ncnn", "ncnn", (".param",)),
    "tflite": Runtime("cumulet.inference.runtimes.tflite", "tflite-runtime", (".tflite",)),
}


def find_version(name: str) -> str:
    """The version of a runtime on this computer, or "" if it is not there."""
    try:
        return metadata.version(RUNTIMES[name].package)
    except metadata.PackageNotFoundError:
        return ""


def find_runtimes() -> list[str]:
    """The runtimes of this computer."""
    return [name for name in RUNTIMES if find_version(name)]


def choose_runtime(path: Path) -> str:
    """The runtime for a model's file. Raises UsageError if no runtime reads it, ToolError if none that does is here."""
    able = [name for name, runtime in RUNTIMES.items() if path.suffix in runtime.suffixes]
    if not able:
        known = sorted({suffix for runtime in RUNTIMES.values() for suffix in runtime.suffixes})
        raise UsageError(f"{path}: no runtime reads such files", hint=f"known are: {', '.join(known)}")
    here = [name for name in able if find_version(name)]
    if not here:
        packages = " or ".join(RUNTIMES[name].package for name in able)
        raise ToolError(
            f"{path}: {packages} is not here", hint=f"feature inference-{able[0]}, or pip install {packages}"
        )
    return here[0]


def open_model(runtime: str, path: Path, *, gpu: bool, threads: int) -> Loaded:
    """A model in a runtime. `threads`: 0 is one for every processor. Raises UsageError for a file that it refuses."""
    if not path.is_file():
        raise UsageError(f"{path}: no such model")
    module = importlib.import_module(RUNTIMES[runtime].module)
    loaded: Loaded = module.load(path, gpu=gpu, threads=threads)
    return loaded
