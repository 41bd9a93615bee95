"""One runtime on one provider with the sample network: `python -m cumulet.inference.measure RUNTIME cpu|gpu`.

Its own process, because a driver that is not up to it may take its process down, or never come back.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cumulet.core.errors import CumuletError
from cumulet.inference.runtimes import find_version, open_model
from cumulet.inference.sample.network import INPUT, OUTPUT, make_images
from cumulet.inference.sample.write import arrange, write_sample

MOST_RUNS, ENOUGH_SECONDS = 30, 0.5


def measure(runtime: str, *, gpu: bool) -> dict[str, Any]:
    """Answers to every image, and the median of the seconds that one takes."""
    images = [arrange(runtime, image) for image in make_images()]
    with tempfile.TemporaryDirectory(prefix="cumulet-sample-") as name:
        model = open_model(runtime, write_sample(runtime, Path(name)), gpu=gpu, threads=0)
        answers = [model.run({INPUT: image})[OUTPUT].ravel().tolist() for image in images]
        seconds: list[float] = []
        while len(seconds) < MOST_RUNS and sum(seconds) < ENOUGH_SECONDS:
            start = time.perf_counter()
            model.run({INPUT: images[0]})
            seconds.append(time.perf_counter() - start)
        model.close()
    return {"version": find_version(runtime), "answers": answers, "seconds": statistics.median(seconds)}


def main(arguments: Sequence[str]) -> int:
    """Print the measurement as the last line, or the reason why there is none."""
    runtime, provider = arguments
    try:
        told = measure(runtime, gpu=provider == "gpu")
    except CumuletError as error:
        told = {"error": error.message}
    sys.stdout.write("\n" + json.dumps(told) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
