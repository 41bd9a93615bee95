"""A container of a runtime, built and started: its session gives the right answers; a second build is the same."""

from __future__ import annotations

import json
import platform
import subprocess
import tarfile
from pathlib import Path

import pytest

from cumulet_builder.cli import main
from cumulet_builder.kubernetes.oci import verify_archive

pytestmark = [pytest.mark.build, pytest.mark.timeout(1800)]
HOST = "arm64" if platform.machine() == "aarch64" else "amd64"
RUNTIMES = (("runtime-onnxruntime", "onnxruntime"), ("runtime-ncnn", "ncnn"), ("runtime-litert", "litert"))


def unpack(archive: Path, folder: Path) -> Path:
    """The container's root, made of its layers."""
    with tarfile.open(archive) as stream:
        stream.extractall(folder / "oci", filter="data")
    index = json.loads((folder / "oci/index.json").read_text())
    manifest = json.loads((folder / "oci/blobs" / index["manifests"][0]["digest"].replace(":", "/")).read_text())
    root = folder / "root"
    root.mkdir()
    for layer in manifest["layers"]:
        blob = folder / "oci/blobs" / layer["digest"].replace(":", "/")
        subprocess.run(["tar", "--zstd", "-C", root, "-xf", blob], check=True)
    return root


@pytest.mark.parametrize(("name", "runtime"), RUNTIMES)
def test_a_runtime_computes_in_its_container(name: str, runtime: str, tmp_path: Path, need_root: None) -> None:
    digests = []
    for out in ("one", "two"):
        assert main(["container", "build", name, "--arch", HOST, "--out", str(tmp_path / out)]) == 0
        digests.append(json.loads((tmp_path / out / f"{name}-{HOST}/container.json").read_text())["digest"])
    assert digests[0] == digests[1]
    archive = tmp_path / f"one/{name}-{HOST}/image.oci.tar"
    assert verify_archive(archive) == []
    root = unpack(archive, tmp_path)
    words = ["chroot", root, "/usr/bin/python3", "-m", "cumulet.inference.measure", runtime, "cpu"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["seconds"] > 0
    # The class that the network sees in the first image, in every runtime.
    assert max(range(10), key=told["answers"][0].__getitem__) == 7
    for gone in ("usr/bin/apt", "usr/bin/dpkg", "usr/bin/perl", "usr/bin/bash", "usr/bin/systemctl"):
        assert not (root / gone).exists()
