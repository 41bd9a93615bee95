"""The self-test: every runtime of this computer on CPU and GPU, measured in processes of their own, and judged."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.inference.capabilities import find_refusal, probe_soc
from cumulet.inference.runtimes import find_runtimes
from cumulet.inference.verdict import Measurement, Report, Verdict, judge
from cumulet.inference.vulkan import Renderer

# A GPU's first start compiles shaders, on an emulated processor for minutes.
PATIENCE = 240.0
NO_DEVICE = "no Vulkan device"
# What tells programs where Vulkan's drivers are.
VULKAN = ("VK_DRIVER_FILES", "VK_ICD_FILENAMES", "LD_LIBRARY_PATH")


def run_selftest(runtimes: Sequence[str] = (), *, patience: float = PATIENCE) -> Report:
    """Test these runtimes, or all that are here. A measurement may take `patience` seconds."""
    from cumulet.inference.sample.network import make_answers, make_images, make_network  # noqa: PLC0415 - numpy

    right = make_answers(make_network(), make_images()).tolist()
    soc = probe_soc()
    renderers = find_renderers(patience)
    verdicts = [_test(name, soc, renderers, right, patience) for name in (runtimes or find_runtimes())]
    return Report(soc, tuple(renderers), tuple(verdicts), time.time())


def _test(
    runtime: str, soc: str, renderers: Sequence[Renderer], right: Sequence[Sequence[float]], patience: float
) -> Verdict:
    cpu = run_measurement(runtime, "cpu", patience)
    refusal = find_refusal(soc, runtime) or ("" if renderers else NO_DEVICE)
    gpu = Measurement(failure=refusal) if refusal else run_measurement(runtime, "gpu", patience)
    return judge(runtime, cpu, gpu, renderers, right)


def run_measurement(runtime: str, provider: str, patience: float) -> Measurement:
    """One measurement in a process of its own; whatever becomes of that process is told as the failure."""
    done = _ask(["cumulet.inference.measure", runtime, provider], patience)
    if isinstance(done, str):
        return Measurement(failure=done)
    if "error" in done:
        return Measurement(failure=str(done["error"]))
    answers = tuple(tuple(float(value) for value in row) for row in done["answers"])
    return Measurement(str(done["version"]), answers, float(done["seconds"]))


def find_renderers(patience: float = PATIENCE) -> list[Renderer]:
    """The Vulkan devices of this computer, real ones first, asked in a process of its own."""
    done = _ask(["cumulet.inference.vulkan"], patience)
    found = [Renderer(**each) for each in done] if isinstance(done, list) else []
    return sorted(found, key=lambda each: each.kind == "software")


def _ask(words: Sequence[str], patience: float) -> Any:
    """The JSON in the last line of a module of ours run as a program, or in words what went wrong."""
    # The SDK that runs is the one that measures, wherever it lies.
    extra = {"PYTHONPATH": str(Path(__file__).parents[2])}
    extra |= {name: os.environ[name] for name in VULKAN if name in os.environ}
    try:
        done = proc.run([sys.executable, "-m", *words], env=extra, timeout=patience, check=False)
    except ToolError as error:
        # Too long, or not to be started at all: a root without /dev/null is enough for that.
        return error.message.removeprefix(f"{sys.executable}: ")
    if done.code != 0:
        # A process that was killed may leave half a line, or none.
        lines = [line for line in ("".join(filter(str.isprintable, each)) for each in done.err.splitlines()) if line]
        return f"{proc.describe_exit(done.code)}{f': {lines[-1][:200]}' if lines else ''}"
    return json.loads(done.out.strip().splitlines()[-1])
