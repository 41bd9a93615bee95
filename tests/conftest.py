"""What every test may ask for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from cumulet.core import proc

Write = Callable[[str, str], Path]


def refuse(reason: str) -> NoReturn:
    """Skip on a laptop; in CI a test that cannot run is a failure."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture
def need() -> Callable[[str], str]:
    """`need("dash")`: the path of a program that the test cannot do without."""

    def look(name: str) -> str:
        found = proc.find(name)
        return found if found is not None else refuse(f"{name} is not on this computer")

    return look


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with home and cache beside it, so that nothing of the user is touched."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return folder


@pytest.fixture
def write(here: Path) -> Write:
    """Write a text file below the current folder and return its path."""

    def write_file(name: str, text: str) -> Path:
        path = here / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write_file
