"""One way to run a model, whichever runtime its file is for: CPU and GPU are chosen by what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from cumulet.core.errors import TargetError, UsageError
from cumulet.inference.runtimes import Loaded, Tensor, choose_runtime, find_version, open_model
from cumulet.inference.selftest import find_renderers, run_selftest
from cumulet.inference.verdict import STATE, Report, Verdict, load_report

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from cumulet.inference.runtimes import Arrays

Provider = Literal["auto", "cpu", "gpu"]
PROVIDERS = ("auto", "cpu", "gpu")


@dataclass(frozen=True, slots=True)
class Choice:
    """Where a model runs, and in words why there."""

    gpu: bool
    why: str


def choose_provider(asked: Provider, runtime: str, verdict: Verdict | None) -> Choice:
    """CPU or GPU, by the self-test's verdict. Raises TargetError if the GPU is asked for and was not found right."""
    if asked not in PROVIDERS:
        raise UsageError(f"provider: {asked!r}", hint=f"one of {', '.join(PROVIDERS)}")
    if asked == "cpu":
        return Choice(False, "asked for")
    if verdict is not None and verdict.gpu:
        return Choice(True, f"right, and {verdict.cpu_seconds / verdict.gpu_seconds:.1f} times as fast as the CPU")
    reason = verdict.why if verdict is not None else "not tested on this computer"
    if asked == "gpu":
        raise TargetError(f"{runtime}: the GPU is refused: {reason}", hint="provider='cpu', or see: cumulet selftest")
    return Choice(False, reason)


def find_verdict(runtime: str, report: Report | None) -> Verdict | None:
    """The verdict of a report that is of this very runtime and these very drivers; None if it is not.

    A container has a runtime and drivers of its own: what its host found need not hold in it.
    """
    verdict = report.of(runtime) if report else None
    if report is None or verdict is None or verdict.version != find_version(runtime):
        return None
    if verdict.gpu and tuple(find_renderers()) != report.renderers:
        return None
    return verdict


class Session:
    """A model that is ready to run. Made by `open_session`; used in a `with`, or closed."""

    def __init__(self, runtime: str, choice: Choice, model: Loaded) -> None:
        self.runtime = runtime
        self.provider: Literal["cpu", "gpu"] = "gpu" if choice.gpu else "cpu"
        self.why = choice.why
        self._model = model

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """What goes in."""
        return self._model.inputs

    @property
    def outputs(self) -> tuple[Tensor, ...]:
        """What comes out."""
        return self._model.outputs

    def run(self, arrays: Arrays) -> dict[str, npt.NDArray[np.generic]]:
        """One inference: input name -> array, to output name -> array. Raises UsageError for other names."""
        wanted = {tensor.name for tensor in self.inputs}
        if set(arrays) != wanted:
            raise UsageError(
                f"{self.runtime}: inputs are {', '.join(sorted(arrays)) or 'none'}, the model wants "
                f"{', '.join(sorted(wanted))}"
            )
        return self._model.run(arrays)

    def close(self) -> None:
        """Let go of memory and devices."""
        self._model.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(
    path: Path, provider: Provider = "auto", *, runtime: str = "", threads: int = 0, state: Path = STATE
) -> Session:
    """Open a model's file: `.onnx`, `.tflite`, or ncnn's `.param` with `.bin` beside it.

    `auto` takes the GPU where the self-test found it right and faster, `gpu` raises TargetError where it did not;
    that is tested now if it was not before. `threads`: 0 is one for every processor.
    """
    name = runtime or choose_runtime(path)
    verdict = None
    if provider != "cpu":
        verdict = find_verdict(name, load_report(state)) or run_selftest([name]).of(name)
    choice = choose_provider(provider, name, verdict)
    return Session(name, choice, open_model(name, path, gpu=choice.gpu, threads=threads))
