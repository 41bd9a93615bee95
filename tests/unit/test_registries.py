"""Where packages come from is everybody's own setting: no host of a registry stands in any file of ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("builder", "sdk", "qemu", "recipes", "layers", "docs", "tests", "bench", ".ci")
FILES = ("Makefile", "README.md", "CONTRIBUTING.md", "pyproject.toml", "requirements.lock", "conftest.py")
# In pieces, so that this file has none of them either.
HOSTS = {
    "Debian": [("debian", "org", name) for name in ("deb", "ftp", "security", "snapshot", "httpredir", "archive")]
    + [("debian", "net", "debian-archive"), ("ubuntu", "com", "archive"), ("ubuntu", "com", "security")],
    "Python": [("pypi", "org", ""), ("pythonhosted", "org", ""), ("pypi", "io", "")],
    "Go": [("golang", "org", "proxy"), ("golang", "org", "sum"), ("goproxy", "io", ""), ("goproxy", "cn", "")],
    "others": [("npmjs", "org", ""), ("crates", "io", ""), ("rubygems", "org", ""), ("docker", "io", "registry-1")],
}


def texts() -> Iterator[tuple[Path, str]]:
    """Every file of ours, also one that is not committed yet."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in [*paths, *(ROOT / name for name in FILES if (ROOT / name).is_file())]:
        # Module sums name modules, among them those of Go itself.
        if "__pycache__" not in path.parts and path.suffix not in (".pyc", ".png", ".sum"):
            yield path.relative_to(ROOT), path.read_bytes().decode(errors="replace").lower()


@pytest.mark.parametrize("kind", HOSTS)
def test_no_file_names_the_host_of_a_registry(kind: str) -> None:
    hosts = [".".join(word for word in (first, middle, last) if word) for middle, last, first in HOSTS[kind]]
    assert [f"{path} names {host}" for path, text in texts() for host in hosts if host in text] == []


def test_there_is_something_to_look_at() -> None:
    names = {str(path) for path, _ in texts()}
    assert {"pyproject.toml", "builder/cumulet_builder/engines/debian/mirror.py", "docs/style.md"} <= names
