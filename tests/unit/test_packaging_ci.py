"""The rule of the top conftest.py: in CI a skip is a failure."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SKIPS = """
import pytest

def test_good():
    assert True

def test_inside():
    pytest.skip("no frobnicator here")

@pytest.mark.skipif(True, reason="no gadget here")
def test_marked():
    assert True

@pytest.mark.xfail(reason="known", strict=True)
def test_known():
    assert False
"""
MODULE = 'import pytest\npytest.skip("no widget here", allow_module_level=True)\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "conftest.py").write_text((ROOT / "conftest.py").read_text())
    (tmp_path / "test_skips.py").write_text(SKIPS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    return tmp_path


def run(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("CI", "PYTEST_ADDOPTS")}
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(argv, cwd=folder, env={**clean, **env}, capture_output=True, text=True, check=False)


def test_a_skip_is_a_skip_on_a_laptop(folder: Path) -> None:
    done = run(folder)
    assert done.returncode == 0
    assert "1 passed, 2 skipped, 1 xfailed" in done.stdout


def test_a_skip_fails_in_ci_and_says_why(folder: Path) -> None:
    (folder / "test_module.py").write_text(MODULE)
    done = run(folder, CI="1", PYTEST_ADDOPTS="--continue-on-collection-errors")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 1 xfailed, 2 errors" in done.stdout
    for reason in ("no frobnicator here", "no gadget here", "no widget here"):
        assert f"skipped in CI: Skipped: {reason}" in done.stdout or f"skipped in CI: {reason}" in done.stdout
