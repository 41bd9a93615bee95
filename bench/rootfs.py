"""How long a root file system of the same packages takes: ours, and mmdebstrap's, in one run.

`bench/rootfs.py [RECIPE]`: downloads are cached for both before the clocks start.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import baseline

from cumulet.core.errors import CumuletError
from cumulet_builder.build import Planned, plan
from cumulet_builder.cache import Cache, default_root, open_cache
from cumulet_builder.plan import Step, make_plan
from cumulet_builder.recipe.load import find_recipe
from cumulet_builder.run_plan import Run, run_plan
from cumulet_builder.settings import Settings

STAGES = ("tools", "base", "packages")


def main() -> int:
    """Measure, print, compare."""
    arguments = parse_arguments()
    baseline.check_computer()
    shared = open_cache(arguments.cache.absolute())
    planned = plan(find_recipe(arguments.recipe), Settings(out=Path("out"), cache=shared.root))
    packages = planned.lock.of("base", "extra")
    architecture = planned.lock.request.architecture
    size = sum(each.size for each in packages) / 1e6
    print(f"{planned.recipe.image}: {len(packages)} packages for {architecture}, {size:.0f} MB, downloads cached")
    with shared.in_use(), shared.scratch("bench") as folder:
        archives = baseline.bring_packages(planned.lock, packages, shared, folder / "archives")
        ours = measure_ours(planned, folder)
        for name, seconds in ours.items():
            print(f"cumulet     {seconds:7.1f} s  {name}", flush=True)
        total = sum(ours.values())
        print(f"cumulet     {total:7.1f} s  root assembled, nothing of it in the cache", flush=True)
        with baseline.emulator():
            theirs = baseline.run_mmdebstrap(planned.lock, packages, archives, folder / "root.tar")
        kept = baseline.kept_root(planned.lock, shared)
        kept.parent.mkdir(exist_ok=True)
        (folder / "root.tar").replace(kept)
        print(f"mmdebstrap  {theirs:7.1f} s  root assembled")
    without = total - ours["tools"]
    print(f"ratio       {theirs / total:7.1f}    ({theirs / without:.1f} with the tools tree in the cache)")
    return 0


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipe", nargs="?", default="qemu-arm64")
    parser.add_argument("--cache", type=Path, default=default_root())
    return parser.parse_args()


def measure_ours(planned: Planned, folder: Path) -> dict[str, float]:
    """Seconds per stage in a cache that has the package files and nothing else."""
    cache = open_cache(folder / "cache")
    (cache.root / "files").symlink_to(planned.cache.root / "files")
    wanted = {each.sha256 for each in planned.lock.packages}
    missing = [digest for digest in wanted if not cache.have_file(digest)]
    if missing:
        raise CumuletError(f"{len(missing)} package files are not in the cache; build the recipe first")
    stages = [stage for stage in planned.stages if stage.name in STAGES]
    seconds: dict[str, float] = {}

    def report(step: Step, took: float) -> None:
        if took >= 0:
            seconds[step.stage.name] = took

    start = time.monotonic()
    with (folder / "log").open("w") as log:
        run_plan(make_plan(stages, Cache(cache.root), {}), Run(cache, log, planned.lock.epoch, report))
    seconds["plan and publish"] = time.monotonic() - start - sum(seconds.values())
    return seconds


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CumuletError as error:
        sys.exit(f"error: {error}")
