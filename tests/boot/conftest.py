"""Built images for the boot tests: one build per image, in the user's own cache, as `make image` does it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CUMULET = (sys.executable, "-m", "cumulet_builder.cli")
BUILD_SECONDS = 3000.0
Build = Callable[..., Path]
Run = Callable[..., str]


def run(*words: str | Path, code: int = 0, limit: float = BUILD_SECONDS) -> str:
    """Run cumulet; returns what it wrote on both outputs. It must end with `code`."""
    done = subprocess.run(
        [*CUMULET, *map(str, words)], cwd=ROOT, capture_output=True, text=True, timeout=limit, check=False
    )
    assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@pytest.fixture(scope="session")
def cumulet() -> Run:
    """The command line."""
    return run


@pytest.fixture(scope="session")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the images of this run are published."""
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="session")
def build(out: Path) -> Build:
    """Build an image once; returns its folder."""
    done: dict[str, Path] = {}

    def build_image(recipe: str, image: str, *options: str) -> Path:
        if image not in done:
            run("build", recipe, "--out", out, *options)
            done[image] = out / image
        return done[image]

    return build_image
