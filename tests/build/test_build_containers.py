"""Containers of the runtimes, built and started: right answers, the same bytes again, and locks for the boards."""

from __future__ import annotations

import json
import platform
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packaging.utils import canonicalize_name

from cumulet.inference.sample.network import make_images
from cumulet.inference.sample.write import arrange, write_sample
from cumulet_builder.assets import find_assets
from cumulet_builder.cache import default_root, open_cache
from cumulet_builder.cli import main
from cumulet_builder.containers.build import make_stages
from cumulet_builder.containers.model import find_container, find_pins_file, load_container, make_request
from cumulet_builder.engines.debian.lock import load_lock
from cumulet_builder.engines.debian.resolve import host_architecture
from cumulet_builder.engines.debian.settle import LockChoice, settle_lock
from cumulet_builder.kubernetes.oci import verify_archive
from cumulet_builder.plan import make_plan

pytestmark = [pytest.mark.build, pytest.mark.timeout(1800)]
HOST = "arm64" if platform.machine() == "aarch64" else "amd64"
ALL = sorted(path.stem for path in (find_assets("recipes") / "containers").glob("*.yaml"))
# The class that the sample network sees in the first image, in every runtime.
FIRST = 7
GONE = ("usr/bin/apt", "usr/bin/dpkg", "usr/bin/perl", "usr/bin/bash", "usr/bin/systemctl")
TFLITE = """
import json, sys
import numpy
from tflite_runtime.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1])
model.allocate_tensors()
model.set_tensor(model.get_input_details()[0]["index"], numpy.load(sys.argv[2]))
model.invoke()
print(json.dumps(model.get_tensor(model.get_output_details()[0]["index"]).ravel().tolist()))
"""


def build(name: str, out: Path) -> dict[str, Any]:
    """Build a container for this computer; what its `container.json` says, and its archive."""
    assert main(["container", "build", name, "--arch", HOST, "--out", str(out)]) == 0
    folder = out / f"{name}-{HOST}"
    about: dict[str, Any] = json.loads((folder / "container.json").read_text())
    assert verify_archive(folder / "image.oci.tar") == []
    return {**about, "archive": folder / "image.oci.tar", "lock": folder / "lock.json"}


def forget(name: str, lock: Path) -> None:
    """Let what is packed into a container be packed again; the cache keeps the rest."""
    cache = open_cache(default_root())
    for step in make_plan(make_stages(load_container(find_container(name)), load_lock(lock)), cache, {}):
        if step.stage.name in ("sdk", "container"):
            assert cache.have_stage(step.stage.name, step.key)
            cache.drop_stage(step.stage.name, step.key)


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


INSIDE = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && exec chroot "$0" "$@"'


def run_inside(root: Path, *words: str) -> str:
    """What a program prints in a container's root, with the devices and processes that every container has."""
    argv = ["unshare", "--mount", "--pid", "--fork", "sh", "-c", INSIDE, str(root), *words]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("runtime", ["onnxruntime", "ncnn", "litert"])
def test_the_self_test_finds_a_runtime_right_in_its_container(runtime: str, tmp_path: Path, need_root: None) -> None:
    made = build(f"runtime-{runtime}", tmp_path)
    root = unpack(made["archive"], tmp_path)
    words = ("--runtime", runtime, "--state", "/tmp/selftest.json", "--json")
    report = json.loads(run_inside(root, "/usr/bin/cumulet", "selftest", *words))
    (verdict,) = report["verdicts"]
    assert (verdict["runtime"], verdict["cpu"], verdict["cpu_why"]) == (runtime, True, "")
    assert 0 <= verdict["cpu_error"] < 0.01
    assert verdict["cpu_seconds"] > 0
    # This computer has no GPU: one that is played by software must not count as one.
    assert (verdict["gpu"], verdict["why"] != "") == (False, True)
    measured = run_inside(root, "/usr/bin/python3", "-m", "cumulet.inference.measure", runtime, "cpu")
    answers = json.loads(measured.splitlines()[-1])["answers"]
    assert max(range(10), key=answers[0].__getitem__) == FIRST
    assert [path for path in GONE if (root / path).exists()] == []


def test_a_container_that_is_packed_again_is_the_same(tmp_path: Path, need_root: None) -> None:
    first = build("runtime-onnxruntime", tmp_path / "one")
    forget("runtime-onnxruntime", first["lock"])
    second = build("runtime-onnxruntime", tmp_path / "two")
    assert (second["name"], second["digest"]) == (first["name"], first["digest"])


def test_an_old_app_finds_tflite_runtime_in_its_container(tmp_path: Path, need_root: None) -> None:
    root = unpack(build("runtime-tflite", tmp_path)["archive"], tmp_path)
    model = write_sample("litert", tmp_path)
    (root / "tmp/model.tflite").write_bytes(model.read_bytes())
    np.save(root / "tmp/image.npy", arrange("litert", make_images()[0]))
    told = run_inside(root, "/usr/bin/python3", "-c", TFLITE, "/tmp/model.tflite", "/tmp/image.npy")
    answers = json.loads(told.splitlines()[-1])
    assert max(range(10), key=answers.__getitem__) == FIRST
    assert not (root / "usr/lib/python3/dist-packages/cumulet").exists()


@pytest.mark.parametrize("name", ALL)
def test_a_container_for_boards_is_locked_with_packages_and_wheels_of_their_architecture(name: str) -> None:
    path = find_container(name)
    recipe = load_container(path)
    pins = find_pins_file(recipe, path)
    request = make_request(recipe, "arm64", host_architecture(platform.machine()), pins)
    cache = open_cache(default_root())
    lock, _ = settle_lock(path, f"{name}-arm64", request, LockChoice(None, False, None, pins), cache)
    assert {package.architecture for package in lock.packages if package.group == "base"} <= {"arm64", "all"}
    assert {"python3", *recipe.packages} <= {package.name for package in lock.packages if package.group == "base"}
    assert {f"{canonicalize_name(wheel.name)}=={wheel.version}" for wheel in lock.wheels} == set(request.wheels)
    assert [wheel.file for wheel in lock.wheels if not wheel.file.endswith(("-any.whl", "aarch64.whl"))] == []
    assert [step.stage.name for step in make_plan(make_stages(recipe, lock), cache, {})][-1] == "container"
