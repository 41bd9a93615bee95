"""Real nodes for the tests: the lab's image built once, and labs that are always taken down."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import pytest
from api_servers import ApiServer, api_servers, unpack_programs
from sites import running_lab

from cumulet_qemu.lab.lab import Lab

ROOT = Path(__file__).parents[2]
BOARDS = {"x86_64": "qemu-amd64", "aarch64": "qemu-arm64"}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MakeLab = Callable[..., AbstractContextManager[Lab]]


@pytest.fixture(scope="session")
def lab_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published image `lab-node` for this computer, built in the user's own cache, or CUMULET_LAB_IMAGE."""
    if os.geteuid() != 0:
        pytest.skip("a lab needs root")
    if "CUMULET_LAB_IMAGE" in os.environ:
        return Path(os.environ["CUMULET_LAB_IMAGE"])
    out = tmp_path_factory.mktemp("out")
    words = ["build", "lab-node", "--set", f"board={BOARDS[platform.machine()]}", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "cumulet_builder.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / "lab-node"


@pytest.fixture(scope="session")
def super_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published container `runtime-super` for this computer, built in the user's own cache."""
    out, machine = tmp_path_factory.mktemp("containers"), platform.machine()
    words = ["container", "build", "runtime-super", "--arch", ARCHITECTURES[machine], "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "cumulet_builder.cli", *words], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return out / f"runtime-super-{ARCHITECTURES[machine]}"


@pytest.fixture(scope="session")
def kube_programs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with `kube` and `etcd` of the lab's image, or CUMULET_KUBE_PROGRAMS."""
    if "CUMULET_KUBE_PROGRAMS" in os.environ:
        return Path(os.environ["CUMULET_KUBE_PROGRAMS"])
    return unpack_programs(request.getfixturevalue("lab_image"), tmp_path_factory.mktemp("programs"))


@pytest.fixture(scope="module")
def planes(kube_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ApiServer]]:
    """API servers without nodes: `hub`, `edge`, `other`."""
    with api_servers(tmp_path_factory.mktemp("planes"), kube_programs, ["hub", "edge", "other"]) as found:
        yield found


@pytest.fixture(scope="session")
def labs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the labs of this run are kept, apart from the user's own."""
    return tmp_path_factory.mktemp("labs")


@pytest.fixture(scope="session")
def lab(lab_image: Path, labs: Path) -> MakeLab:
    """`with lab("a", 3, "10.61.0.0/24") as found:` three running nodes, taken away at the end whatever happens."""

    return partial(running_lab, lab_image, labs)
