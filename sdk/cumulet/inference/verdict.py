"""What the self-test found, as a document, and the judgement behind it. Pure, but for reading and writing the file."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cumulet.core.files import write_text
from cumulet.inference.vulkan import Renderer

STATE = Path("/var/lib/cumulet/selftest.json")
VERSION = 1
# How far an answer may be from the right one: both may compute in half precision, a GPU also sums in another order.
CPU_TOLERANCE, GPU_TOLERANCE = 1e-2, 2e-2


@dataclass(frozen=True, slots=True)
class Measurement:
    """A runtime on a provider: answers per image, seconds per inference; or why there is nothing of that."""

    version: str = ""
    answers: tuple[tuple[float, ...], ...] = ()
    seconds: float = 0.0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A runtime on this computer. Seconds per inference are 0, and errors -1, where nothing could be measured.

    `cpu` and `gpu` say whether it may be used; `why` is the reason if the GPU may not, `cpu_why` if the CPU may not.
    """

    runtime: str
    version: str
    cpu: bool
    gpu: bool
    why: str
    cpu_seconds: float = 0.0
    gpu_seconds: float = 0.0
    cpu_error: float = -1.0
    gpu_error: float = -1.0
    cpu_why: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """Everything that the self-test found. `made`: seconds since 1970."""

    soc: str
    renderers: tuple[Renderer, ...]
    verdicts: tuple[Verdict, ...]
    made: float = 0.0
    version: int = field(default=VERSION)

    def of(self, runtime: str) -> Verdict | None:
        """The verdict on a runtime, if it was tested."""
        return next((each for each in self.verdicts if each.runtime == runtime), None)


def find_error(answers: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> float:
    """The farthest that an answer is from the right one; infinite if it is no number, or names another class."""
    if [len(row) for row in answers] != [len(row) for row in right]:
        return math.inf
    farthest = 0.0
    for row, wanted in zip(answers, right, strict=True):
        if not all(math.isfinite(value) for value in row):
            return math.inf
        if max(range(len(row)), key=row.__getitem__) != max(range(len(row)), key=wanted.__getitem__):
            return math.inf
        farthest = max(farthest, *(abs(one - other) for one, other in zip(row, wanted, strict=True)))
    return farthest


def judge(
    runtime: str,
    cpu: Measurement,
    gpu: Measurement | None,
    renderers: Sequence[Renderer],
    right: Sequence[Sequence[float]],
) -> Verdict:
    """Whether CPU and GPU may be used. `gpu` is None where it was not worth trying; the caller says why then."""
    cpu_error = -1.0 if cpu.failure else find_error(cpu.answers, right)
    gpu_error = -1.0 if gpu is None or gpu.failure else find_error(gpu.answers, right)
    why = "" if gpu is None else _refuse(cpu, gpu, gpu_error, renderers)
    return Verdict(
        runtime,
        cpu.version or (gpu.version if gpu else ""),
        cpu=not cpu.failure and cpu_error <= CPU_TOLERANCE,
        gpu=gpu is not None and not why,
        why=why,
        cpu_seconds=cpu.seconds,
        gpu_seconds=gpu.seconds if gpu else 0.0,
        cpu_error=cpu_error,
        gpu_error=gpu_error,
        cpu_why=cpu.failure or ("" if cpu_error <= CPU_TOLERANCE else f"wrong results: off by {cpu_error:.3f}"),
    )


def _refuse(cpu: Measurement, gpu: Measurement, error: float, renderers: Sequence[Renderer]) -> str:
    """Why the GPU may not be used, the gravest reason first; "" if it may."""
    if gpu.failure:
        return gpu.failure
    name = renderers[0].name if renderers else "the GPU"
    if error > GPU_TOLERANCE:
        off = "of another class, or no numbers" if math.isinf(error) else f"off by {error:.3f}"
        return f"wrong results on {name}: {off}"
    if renderers and all(each.kind == "software" for each in renderers):
        return f"{name} computes on the CPU"
    if not cpu.failure and gpu.seconds >= cpu.seconds:
        return f"{name} is slower than the CPU: {gpu.seconds * 1000:.2f} ms against {cpu.seconds * 1000:.2f} ms"
    return ""


def save_report(report: Report, path: Path = STATE) -> None:
    """Keep a report, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(asdict(report), indent=1) + "\n")


def load_report(path: Path = STATE) -> Report | None:
    """The report that was kept; None if there is none, or only one of another version."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        if found.pop("version") != VERSION:
            return None
        renderers = tuple(Renderer(**each) for each in found.pop("renderers"))
        verdicts = tuple(Verdict(**each) for each in found.pop("verdicts"))
        return Report(renderers=renderers, verdicts=verdicts, **found)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
