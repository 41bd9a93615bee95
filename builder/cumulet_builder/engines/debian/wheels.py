"""Python wheels for the image: chosen and checked by pip, unpacked by us."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.lock import LockedWheel
from cumulet_builder.tree import Tree

# Python of Debian 13.
PYTHON = "3.13"
PLATFORMS = {
    "arm64": ("manylinux_2_39_aarch64", "manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "amd64": ("manylinux_2_39_x86_64", "manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"),
}
SITE = "/usr/lib/python3/dist-packages"


def resolve_wheels(names: Sequence[str], architecture: str, folder: Path) -> list[LockedWheel]:
    """The wheels for `names` and what they need. Raises UsageError if pip finds none."""
    if not names:
        return []
    report = folder / "wheels.json"
    words: list[str | Path] = [
        "install",
        "--dry-run",
        "--quiet",
        "--report",
        report,
        "--target",
        folder / "wheels",
        *names,
    ]
    _pip([*words, *_options(architecture)], "wheels")
    wheels = []
    for item in json.loads(report.read_text())["install"]:
        info = item["download_info"]
        wheels.append(
            LockedWheel(
                name=item["metadata"]["name"],
                version=item["metadata"]["version"],
                file=unquote(info["url"].rsplit("/", 1)[-1]),
                sha256=info["archive_info"]["hashes"]["sha256"],
                size=0,
            )
        )
    return sorted(wheels, key=lambda wheel: wheel.name.lower())


def fetch_wheels(wheels: Sequence[LockedWheel], architecture: str, cache: Cache) -> None:
    """Bring the wheels that the cache lacks into it, each checked against the lock."""
    missing = [wheel for wheel in wheels if not cache.have_file(wheel.sha256)]
    if not missing:
        return
    with cache.scratch("wheels") as folder:
        wanted = folder / "wanted.txt"
        lines = (f"{wheel.name}=={wheel.version} --hash=sha256:{wheel.sha256}" for wheel in missing)
        wanted.write_text("\n".join(lines))
        words: list[str | Path] = [
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--dest",
            folder,
            "-r",
            wanted,
        ]
        _pip([*words, *_options(architecture)], "wheels")
        for wheel in missing:
            cache.add_file(folder / wheel.file, wheel.sha256)


def make_wheel_tree(wheels: Sequence[LockedWheel], cache: Cache) -> Tree:
    """The wheels' files as they lie in the image; their command-line scripts are left out."""
    tree = Tree()
    for wheel in wheels:
        with zipfile.ZipFile(cache.file(wheel.sha256)) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and ".data/" not in name:
                    tree.file(f"{SITE}/{name}", archive.read(name))
    return tree


def _options(architecture: str) -> list[str]:
    options = ["--only-binary=:all:", "--python-version", PYTHON, "--implementation", "cp"]
    for platform in PLATFORMS[architecture]:
        options += ["--platform", platform]
    return options


def _pip(words: Sequence[str | Path], what: str) -> None:
    result = proc.run([sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *words], check=False)
    if result.code == 0:
        return
    lines = [line for line in result.err.splitlines() if line.startswith("ERROR:")]
    text = lines[-1].removeprefix("ERROR: ") if lines else result.err.strip()[-300:]
    # pip says that it found nothing also when it could not ask.
    asked = "connection broken by" not in result.err
    if asked and ("No matching distribution" in text or "Could not find a version" in text):
        raise UsageError(f"{what}: {text}", hint="check the names under `wheels:` in the recipe")
    raise ToolError(f"{what}: pip {proc.describe_exit(result.code)}: {text}", hint="is the package index reachable?")
