"""How long it takes until a change of a recipe is a bootable disk, and how big the results are.

`bench/build.py [RECIPE ...]`: each recipe is built once before the clocks start.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import CumuletError
from cumulet_builder.cache import default_root
from cumulet_builder.recipe.load import find_recipe

RECIPES = ("base-arm64", "qemu-arm64")
# Seconds to stay under, by what changed.
AIMS = {"no change": 2, "one changed file": 10, "one more package": 30}
ROOT_AIMS = {"base-arm64": 90, "qemu-arm64": 250}
PACKAGE = "tree"


def main() -> int:
    """Measure and print, recipe by recipe."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=RECIPES)
    parser.add_argument("--cache", type=Path, default=default_root())
    arguments = parser.parse_args()
    for name in arguments.recipes:
        # Beside the cache, so that results can share their blocks with it where the file system can.
        with tempfile.TemporaryDirectory(prefix="bench-", dir=arguments.cache) as folder:
            measure(name, Path(folder), arguments.cache)
    return 0


def measure(name: str, folder: Path, cache: Path) -> None:
    """Change a copy of the recipe step by step; each step is built and timed."""
    recipe = folder / f"{name}.yaml"
    copy_parts(find_recipe(name).parent / "parts", folder / "parts")
    text = find_recipe(name).read_text()
    steps = {
        "no change": text,
        "one changed file": f"{text}files: [{{path: /etc/motd, content: changed}}]\n",
        "one more package": f"{text}packages: [{PACKAGE}]\n",
    }
    recipe.write_text(text)
    build(recipe, folder / "out", cache)
    for what, changed in steps.items():
        recipe.write_text(changed)
        start = time.monotonic()
        build(recipe, folder / "out", cache)
        print(f"{name:<12} {what:<18} {time.monotonic() - start:6.1f} s   (at most {AIMS[what]} s)", flush=True)
    root = find_root_size(folder / "out" / name / "sizes.txt")
    print(f"{name:<12} root partition     {root:>9} (at most {ROOT_AIMS.get(name, '?')} MiB)")


def copy_parts(source: Path, target: Path) -> None:
    """What the recipe includes, beside its copy."""
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_text(path.read_text())


def build(recipe: Path, out: Path, cache: Path) -> None:
    """`cumulet build`, as a user starts it."""
    proc.run([Path(sys.executable).parent / "cumulet", "build", recipe, "--out", out, "--cache", cache])


def find_root_size(report: Path) -> str:
    """The compressed size of the root in a size report, as `37.5 MiB`."""
    line = next(line for line in report.read_text().splitlines() if line.startswith("root "))
    return " ".join(line.split()[1:3])


if __name__ == "__main__":
    try:
        sys.exit(main())
    except CumuletError as error:
        sys.exit(f"error: {error}")
