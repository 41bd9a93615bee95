"""The SDK's layer: our package and its wheels, compiled, the same bytes each time."""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from cumulet.core import proc
from cumulet_builder import sdk_layer
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian.lock import Lock, LockedWheel, Request
from cumulet_builder.engines.debian.wheels import SITE, make_wheel_tree
from cumulet_builder.plan import Workshop
from cumulet_builder.tree import Tree, read_tar

EPOCH = 1_700_000_000
FILES = {
    "tool/__init__.py": b"print(1)\n",
    "tool/data.txt": b"x",
    "tool/": b"",
    "tool-1.0.data/scripts/tool": b"#!python\n",
    "tool-1.0.data/purelib/tool/more.txt": b"y",
    "tool-1.0.dist-info/METADATA": b"Name: tool\n",
}


class FakeTools:
    """A tools tree whose python3 is the one that runs the tests."""

    asked: Sequence[Path] = ()

    def __init__(self, root: Path) -> None:
        assert root.name == "tree"

    def run(self, argv: Sequence[str | Path], *, folders: Sequence[Path], **_: Any) -> proc.Result:
        assert argv[0] == "python3"
        FakeTools.asked = folders
        return proc.run([sys.executable, *argv[1:]])


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def wheel(cache: Cache, tmp_path: Path) -> LockedWheel:
    path = tmp_path / "tool-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in FILES.items():
            archive.writestr(zipfile.ZipInfo(name), data)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    cache.add_file(path, digest)
    return LockedWheel(name="tool", version="1.0", file=path.name, sha256=digest, size=0)


def make_lock(*wheels: LockedWheel) -> Lock:
    text = dict.fromkeys(("suite", "architecture", "host_architecture"), "x")
    nothing: dict[str, object] = {name: () for name in Request.model_fields if name not in text}
    request = Request.model_validate({**nothing, **text})
    return Lock(image="edge", epoch=EPOCH, request=request, packages=(), wheels=wheels)


def run(lock: Lock, with_sdk: bool, folder: Path, cache: Cache) -> Tree:
    folder.mkdir()
    needs = {"tools": folder.parent / "tools"}
    sdk_layer.make_sdk_stage(lock, with_sdk).make(Workshop(folder, needs, cache, io.StringIO(), EPOCH))
    return read_tar(folder / "sdk.tar")


def test_a_wheel_lies_where_python_looks_without_its_scripts(wheel: LockedWheel, cache: Cache) -> None:
    tree = make_wheel_tree([wheel], cache)
    assert {path: tree.read(path) for path in tree.nodes} == {
        f"{SITE}/tool/__init__.py": b"print(1)\n",
        f"{SITE}/tool/data.txt": b"x",
        f"{SITE}/tool/more.txt": b"y",
        f"{SITE}/tool-1.0.dist-info/METADATA": b"Name: tool\n",
    }


def test_modules_are_compiled_and_two_runs_make_the_same_bytes(
    wheel: LockedWheel, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk_layer, "Toolbox", FakeTools)
    trees = [run(make_lock(wheel), False, tmp_path / name, cache) for name in ("one", "two")]
    (compiled,) = [path for path in trees[0].nodes if path.endswith(".pyc")]
    assert compiled.startswith(f"{SITE}/tool/__pycache__/__init__.")
    # Flags 1: the source's hash is there and never checked, so that no clock and no source is looked at.
    assert trees[0].read(compiled)[4:8] == b"\1\0\0\0"
    assert f"{SITE}/tool/__init__.py".encode() in trees[0].read(compiled)
    assert str(cache.root).encode() not in trees[0].read(compiled)
    assert (tmp_path / "one/sdk.tar").read_bytes() == (tmp_path / "two/sdk.tar").read_bytes()
    assert list((cache.root / "tmp").iterdir()) == []
    assert [path.parent for path in FakeTools.asked] == [cache.root / "tmp"]


def test_nothing_asked_for_is_an_empty_layer_and_needs_no_python(cache: Cache, tmp_path: Path) -> None:
    assert run(make_lock(), False, tmp_path / "one", cache).nodes == {}


def test_the_sdk_in_the_image_is_whole_and_only_sources() -> None:
    tree = sdk_layer.load_sdk()
    names = {path.removeprefix(f"{SITE}/") for path in tree.nodes}
    assert {"cumulet/__init__.py", "cumulet/core/proc.py", "cumulet/py.typed"} <= names
    assert any(name.startswith("cumulet/kubernetes/templates/") for name in names)
    assert [name for name in names if "__pycache__" in name] == []
    assert [name for name in names if name.endswith(".dist-info/METADATA")]
    assert not any("cumulet_builder" in name or "cumulet_qemu" in name for name in names)


def test_the_command_of_a_device_is_the_sdks(tmp_path: Path) -> None:
    tree = sdk_layer.make_command_tree()
    script = tmp_path / "cumulet"
    script.write_bytes(tree.read("/usr/bin/cumulet"))
    assert tree.nodes["/usr/bin/cumulet"].mode == 0o755
    done = proc.run([sys.executable, script, "--help"])
    assert "Look after this device and its site." in done.out
    assert "  site " in done.out
    assert "build" not in done.out


def test_the_stage_knows_its_wheels_and_the_sdk(wheel: LockedWheel, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = sdk_layer.make_sdk_stage(make_lock(wheel), True)
    assert stage.files == (wheel.sha256,)
    assert stage.needs == ("tools",)
    changed = Tree()
    changed.file(f"{SITE}/cumulet/__init__.py", b"# changed")
    monkeypatch.setattr(sdk_layer, "load_sdk", lambda: changed)
    other = sdk_layer.make_sdk_stage(make_lock(), True)
    assert {name for name in stage.inputs if stage.inputs[name] != other.inputs[name]} == {"sdk", "wheels"}
