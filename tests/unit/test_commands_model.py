"""`cumulet model` and `cumulet load`: what a publisher and an operator type, and what they read."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet.models import check_files, read_release
from cumulet.models.prune import SCRIPT, prune_models
from cumulet.monitor import install, open_ring
from cumulet.monitor.install import ACCESS, UNIT, make_objects
from cumulet.packages import load_public, make_key
from cumulet.tasks import Reached
from cumulet_builder.cli import main


@pytest.fixture
def model(here: Path) -> Path:
    """A folder with a model, and a key beside it."""
    (here / "yolo").mkdir()
    (here / "yolo/labels.txt").write_text("cat\n")
    make_key(here / "key.pem")
    return here


@pytest.mark.usefixtures("model")
def test_a_model_is_built_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--name", "yolo", "--version", "8.1", "--key", "key.pem"]
    assert main(["model", "build", "yolo", "yolo.oci", *words]) == 0
    built = capsys.readouterr().out
    found = re.fullmatch(r"yolo 8\.1: (\d+) bytes; model: (cumulet\.dev/models/yolo@sha256:[0-9a-f]{64})\n", built)
    assert found
    assert main(["model", "verify", "yolo.oci", "--key", "key.pem.pub"]) == 0
    assert capsys.readouterr().out == f"yolo 8.1: 6 blobs, as signed; model: {found[2]}\n"
    assert main(["model", "build", "yolo", "yolo.oci", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"reference": found[2], "size": int(found[1])}
    make_key(Path("other.pem"))
    assert main(["model", "verify", "yolo.oci", "--key", "other.pem.pub"]) == 4
    assert "not signed by this key" in capsys.readouterr().err
    assert main(["model", "verify", "yolo", "--key", "key.pem.pub"]) == 4
    assert "no model of ours" in capsys.readouterr().err


EDGE = "version: 1\nedge: e\nnodes: [{{name: p1, cpus: 8, memory: 8GiB, disk: {}}}]\n"


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(("free", "kind"), [("40GiB", "image"), ("2MiB", "files")])
def test_a_model_is_published_in_the_way_that_suits_the_disks(
    free: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("edge.yaml").write_text(EDGE.format(free))
    Path("yolo/weights.bin").write_bytes(bytes(3 << 19))
    words = ["--name", "yolo", "--version", "8.1", "--key", "key.pem", "--edge", "edge.yaml"]
    assert main(["model", "publish", "yolo", "store", *words]) == 0
    shown = capsys.readouterr()
    assert ("an image, kept twice" if kind == "image" else "the store, kept once") in shown.err
    package = json.loads(Path("store/index.json").read_text())["packages"][0]
    assert (package["kind"], package["late"], package["name"], package["version"]) == (kind, True, "yolo", "8.1")
    release = read_release(Path("store/models/yolo-8.1.release.json"), load_public(Path("key.pem.pub")))
    assert release.way == ("image" if kind == "image" else "store")
    assert f"model: {release.reference}" in shown.out
    if kind == "image":
        assert release.reference in {each["name"] for each in package["images"]}
    else:
        assert "mount: store" in shown.out
        # What devices unpack is the model with its card, under the very digest that tasks name.
        assert release.digest == f"sha256:{package['sha256']}"
        with tarfile.open(f"store/blobs/sha256/{package['sha256']}") as files:
            files.extractall("unpacked", filter="data")
        assert check_files(Path("unpacked"), load_public(Path("key.pem.pub"))).model == "yolo"
    assert main(["model", "publish", "yolo", "store", *words]) == 0


def test_a_window_is_shown_from_a_ring(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    now = time.time()
    with open_ring(here / "load.ring", sync=lambda handle: None) as ring:
        for step in range(600):
            when = now - 300 * step
            ring.add(when, (10 if 3 <= when % 86400 / 3600 < 5 else 60, 0, 0, 0))
    assert main(["load", "window", "--ring", "load.ring", "--for", "1h", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["basis"] == "days"
    assert 3 <= found["start"] % 86400 / 3600 <= 4
    assert found["load"] == pytest.approx(10, abs=1)
    assert main(["load", "window", "--ring", "load.ring", "--for", "1h"]) == 0
    assert re.search(r": \d+\.\d % expected, \d+\.\d % is usual \(by the last days\)$", capsys.readouterr().out.strip())
    assert main(["load", "show", "--ring", "load.ring"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 24
    assert sum("#" * 30 in line for line in lines) >= 20
    assert main(["load", "window", "--ring", "load.ring", "--for", "soon"]) == 2
    assert "--for: not a time: 'soon'" in capsys.readouterr().err


class Device:
    """A device that remembers its files and what was run on it."""

    def __init__(self, listed: str = "") -> None:
        self.files: dict[str, bytes] = {}
        self.ran: list[tuple[str, ...]] = []
        self.listed = listed
        self.out = ""

    async def run(self, argv: Any, *, input: str | None = None, seconds: float = 120.0) -> Device:
        self.ran.append(tuple(argv))
        return self

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        self.files[path] = data

    async def read_bytes(self, path: str) -> bytes:
        if path not in self.files:
            raise TargetError(f"{path}: no such file")
        return self.files[path]


class Api:
    def __init__(self) -> None:
        self.applied: list[str] = []

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        if method == "PATCH":
            self.applied.append(path)
        return {"data": {"token": base64.b64encode(b"secret").decode(), "ca.crt": "QQ=="}}


def test_the_recorder_is_installed_once_and_may_only_read() -> None:
    device, api = Device(), Api()
    assert asyncio.run(install(api, device, "pier-7", "https://127.0.0.1:7443", print))
    assert api.applied == [path for path, _ in make_objects()]
    access = json.loads(device.files[ACCESS])
    assert access["users"][0]["user"] == {"token": "secret"}
    assert b"-m cumulet.monitor --kubeconfig /etc/cumulet/monitor.conf --site pier-7" in device.files[UNIT]
    assert device.ran[-1] == ("systemctl", "restart", "cumulet-monitor.service")
    role = dict(make_objects())["/apis/rbac.authorization.k8s.io/v1/clusterroles/cumulet-monitor"]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list"}
    device.ran.clear()
    assert not asyncio.run(install(api, device, "pier-7", "https://127.0.0.1:7443", print))
    assert device.ran == [("systemctl", "start", "cumulet-monitor.service")]


def test_a_device_that_cannot_be_logged_in_to_is_named() -> None:
    with pytest.raises(UsageError, match="p9: cannot be logged in to; there are: p4"):
        Reached(Api(), "pier-7", "p1", {"p4": Device()}).device("p9")


def test_models_are_removed_on_the_node_that_has_them_and_nowhere_else() -> None:
    old, new = (f"cumulet.dev/models/yolo@sha256:{each * 64}" for each in "ab")
    have = {"p1": [old, new], "p2": [new]}
    removed: list[tuple[str, list[str]]] = []

    def make(node: str) -> Any:
        async def run(script: str, words: list[str]) -> str:
            assert script == SCRIPT.read_text()
            if words[0] == "remove":
                removed.append((node, words[1:]))
                have[node] = [name for name in have[node] if name not in words[1:]]
            return "".join(f"image {name} {name.partition('@')[2]} 1.0 MiB\n" for name in have[node])

        return run

    run = {node: make(node) for node in have}
    going, staying = asyncio.run(prune_models(run, {new}, dry=True))
    assert ([each.reference for each in going], len(staying), removed) == ([old], 2, [])
    asyncio.run(prune_models(run, {new}))
    assert removed == [("p1", [old])]
    assert asyncio.run(prune_models(run, {new}))[0] == []
