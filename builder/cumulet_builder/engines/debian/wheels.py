"""Python wheels for the image: chosen and checked by pip, unpacked by us."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote

from packaging.utils import canonicalize_name

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache
from cumulet_builder.engines.debian.lock import LockedWheel
from cumulet_builder.engines.debian.pins import Target
from cumulet_builder.tree import Tree

SITE = "/usr/lib/python3/dist-packages"
Hashes = Mapping[str, Collection[str]]
"""`name==version` -> the SHA-256 of every file that may be taken for it."""


def resolve_wheels(words: Sequence[str], target: Target, folder: Path, hashes: Hashes) -> list[LockedWheel]:
    """The wheels for `words`: pinned ones as they are, others with what they need, near the pins.

    Raises UsageError if pip finds none.
    """
    pinned = [word for word in words if word in hashes]
    free = [word for word in words if word not in hashes]
    wheels: dict[str, LockedWheel] = {}
    if free:
        near = folder / "near.txt"
        near.write_text("".join(f"{word}\n" for word in pinned))
        for wheel in _ask(["-c", near, *free], target, folder):
            wheels[canonicalize_name(wheel.name)] = wheel
    if pinned:
        wanted = folder / "pinned.txt"
        wanted.write_text("".join(_make_line(word, hashes[word]) for word in pinned))
        for wheel in _ask(["--no-deps", "--require-hashes", "-r", wanted], target, folder):
            if wheel.sha256 not in hashes[f"{canonicalize_name(wheel.name)}=={wheel.version}"]:
                raise ToolError(f"{wheel.file}: not one of the files that the lock knows", hint="make lock")
            wheels[canonicalize_name(wheel.name)] = wheel
    return [wheels[name] for name in sorted(wheels)]


def _make_line(word: str, hashes: Collection[str]) -> str:
    return " ".join([word, *(f"--hash=sha256:{digest}" for digest in sorted(hashes))]) + "\n"


def _ask(words: Sequence[str | Path], target: Target, folder: Path) -> list[LockedWheel]:
    report = folder / "wheels.json"
    start: list[str | Path] = ["install", "--dry-run", "--quiet", "--report", report, "--target", folder / "wheels"]
    _pip([*start, *words, *_options(target)], "wheels")
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
    return wheels


def fetch_wheels(wheels: Sequence[LockedWheel], target: Target, cache: Cache) -> None:
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
        _pip([*words, *_options(target)], "wheels")
        for wheel in missing:
            cache.add_file(folder / wheel.file, wheel.sha256)


def make_wheel_tree(wheels: Sequence[LockedWheel], cache: Cache) -> Tree:
    """The wheels' files as they lie in the image; their command-line scripts are left out."""
    tree = Tree()
    for wheel in wheels:
        with zipfile.ZipFile(cache.file(wheel.sha256)) as archive:
            for name in archive.namelist():
                if not name.endswith("/") and (path := _place(name)):
                    tree.file(f"{SITE}/{path}", archive.read(name))
    return tree


def _place(name: str) -> str:
    """Where a file of a wheel lies below the folder of packages; "" for what is left out."""
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return name
    scheme, _, path = rest.partition("/")
    return path if scheme in ("purelib", "platlib") else ""


def _options(target: Target) -> list[str]:
    options = ["--only-binary=:all:", "--python-version", target.python, "--implementation", "cp"]
    for platform in target.platforms:
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
