"""The bundled images, booted: each does what its recipe promises, by its own checks over the serial console."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.boot, pytest.mark.timeout(5400)]
Build = Callable[..., Path]
Run = Callable[..., str]


@pytest.mark.parametrize(
    ("image", "options", "least"),
    [
        pytest.param("base-amd64", ["--firmware"], 23, id="base-amd64-uefi"),
        pytest.param("base-arm64", ["--firmware"], 23, id="base-arm64-uefi"),
        pytest.param("qemu-arm64", [], 31, id="qemu-arm64-direct"),
        pytest.param("qemu-arm64-radio", [], 37, id="qemu-arm64-radio-direct"),
        pytest.param("qemu-arm64-inference", [], 28, id="qemu-arm64-inference-direct"),
    ],
)
def test_image_passes_its_boot_checks(
    image: str, options: list[str], least: int, build: Build, cumulet: Run, out: Path, tmp_path: Path
) -> None:
    build(image, image)
    junit = tmp_path / "junit.xml"
    cumulet("test", image, "--out", out, "--junit", junit, "--logs", tmp_path / "logs", *options)
    suite = ElementTree.parse(junit).getroot().find("testsuite")
    assert suite is not None
    assert int(suite.get("tests", 0)) >= least
    assert [suite.get(name) for name in ("failures", "errors", "skipped")] == ["0", "0", "0"]
    assert (tmp_path / "logs/console.log").stat().st_size > 0
