"""Pinned Python packages: a lock as `uv pip compile` writes it, read for the Python of an image.

uv says behind every package who asked for it, so that what one program needs can be told from the rest of a lock.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import Marker
from packaging.utils import canonicalize_name

from cumulet.core.errors import UsageError

LINE = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*\\?$")
HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# Python and C library of each Debian release.
PYTHONS = {"bookworm": "3.11", "trixie": "3.13"}
GLIBCS = {"bookworm": 36, "trixie": 41}
MACHINES = {"arm64": "aarch64", "amd64": "x86_64"}
OLDEST_GLIBC = 17


@dataclass(frozen=True, slots=True)
class Target:
    """The Python that packages are for: Debian's name of an architecture, and a release."""

    architecture: str
    suite: str

    @property
    def python(self) -> str:
        """Its version, as `3.13`. Raises UsageError for a release that we do not know."""
        if self.suite not in PYTHONS:
            raise UsageError(f"suite: no Python known for {self.suite}", hint=f"suite: {' or '.join(PYTHONS)}")
        return PYTHONS[self.suite]

    @property
    def platforms(self) -> tuple[str, ...]:
        """The tags of wheels that run there, the newest C library first."""
        machine = MACHINES[self.architecture]
        newest = [f"manylinux_2_{minor}_{machine}" for minor in range(GLIBCS[self.suite], OLDEST_GLIBC - 1, -1)]
        return (*newest, f"manylinux2014_{machine}", f"linux_{machine}")

    @property
    def environment(self) -> dict[str, str]:
        """What markers are asked of."""
        return {
            "extra": "",
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": MACHINES[self.architecture],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


@dataclass(frozen=True, slots=True)
class Pin:
    """One package of a lock. `hashes`: SHA-256 of each of its files; `askers`: canonical names, or files."""

    name: str
    version: str
    hashes: frozenset[str]
    askers: frozenset[str]

    @property
    def word(self) -> str:
        """As it is asked of pip: `click==8.5.1`."""
        return f"{self.name}=={self.version}"


def load_pins(path: Path, target: Target) -> dict[str, Pin]:
    """What a lock has for a target, by canonical name. Raises UsageError naming file and line for anything else."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="make lock") from error
    return read_pins(text, target, path.name)


def read_pins(text: str, target: Target, file: str) -> dict[str, Pin]:
    """Like `load_pins`, of a text."""
    pins: dict[str, Pin] = {}
    for number, block in _blocks(text):
        match = LINE.match(block[0])
        if not match:
            raise UsageError(f"{file}:{number}: not a pinned package: {block[0].strip()}", hint="make lock")
        name = canonicalize_name(match["name"])
        hashes = frozenset(HASH.findall("\n".join(block)))
        if not hashes:
            raise UsageError(f"{file}:{number}: {name} has no hash", hint="make lock")
        if not match["marker"] or Marker(match["marker"]).evaluate(target.environment):
            pins[name] = Pin(name, match["version"], hashes, frozenset(_askers(block)))
    return pins


def _blocks(text: str) -> Iterable[tuple[int, list[str]]]:
    """(line number, lines) of each package: its line, and what is indented below it."""
    block: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        if not line.startswith(" "):
            if block:
                yield start, block
            start, block = number, []
        block.append(line)
    if block:
        yield start, block


def _askers(block: Iterable[str]) -> Iterable[str]:
    for line in block:
        comment = line.strip()
        if not comment.startswith("#"):
            continue
        words = comment.lstrip("# ").removeprefix("via").split()
        if words:
            yield canonicalize_name(words[0]) if words[0] != "-r" else words[-1]


def select_pins(pins: Mapping[str, Pin], wanted: Iterable[str], file: str) -> list[Pin]:
    """The wanted packages and all that they need. Raises UsageError for a name that the lock lacks."""
    found: dict[str, Pin] = {}
    todo = [take_pin(pins, name, file).name for name in wanted]
    while todo:
        name = todo.pop()
        if name not in found:
            found[name] = pins[name]
            todo += [pin.name for pin in pins.values() if name in pin.askers]
    return sorted(found.values(), key=lambda pin: pin.name)


def take_pin(pins: Mapping[str, Pin], name: str, file: str) -> Pin:
    """One package. Raises UsageError if the lock lacks it."""
    pin = pins.get(canonicalize_name(name))
    if pin is None:
        raise UsageError(f"{file}: has no {name} for this Python", hint="add it to pyproject.toml, then: make lock")
    return pin
