"""Publishing: the new folder when it is whole, the old one until then, and knowing when there is nothing to do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import CumuletError, TargetError, ToolError
from cumulet_builder import publish as module
from cumulet_builder.engines.debian.lock import Lock, Request, load_lock
from cumulet_builder.plan import Stage, Step
from cumulet_builder.publish import Result, clear_up, digest_of, is_published, publish
from cumulet_builder.recipe.load import load_recipe

Write = Callable[[str, str], Path]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"


def make_lock(epoch: int = 1) -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = dict.fromkeys(("suite", "architecture", "host_architecture"), "arm64")
    return Lock(image="edge", epoch=epoch, request=Request.model_validate({**nothing, **text}), packages=())


def make_steps(**keys: str) -> list[Step]:
    return [Step(Stage(name, {}, lambda workshop: None), key, False, "") for name, key in keys.items()]


@pytest.fixture
def result(write: Write, here: Path, monkeypatch: pytest.MonkeyPatch) -> Result:
    """A build's stages; reports are one small file."""

    def write_reports(recipe: Any, lock: Any, keys: Any, stages: Any, folder: Path, *, fragments: Any) -> None:
        (folder / "manifest.json").write_text(json.dumps({"keys": keys, "files": sorted(listing(folder))}))

    monkeypatch.setattr(module, "write_reports", write_reports)
    stages = {name: here / "stages" / name for name in ("kernel", "initramfs", "image")}
    for name, file in (("kernel", "vmlinuz"), ("kernel", "kernel.tar"), ("initramfs", "initrd.img")):
        write(f"stages/{name}/{file}", file)
    write("stages/image/disk.img", "disk")
    write("stages/image/cmdline.txt", "root=PARTLABEL=root-a\n")
    path = write("r.yaml", HEAD)
    log = write("edge.log", "== built\n")
    steps = make_steps(kernel="k1", image="k2")
    return Result(load_recipe(path), make_lock(), steps, stages, log, (path,))


@pytest.fixture
def out(here: Path) -> Path:
    return here / "out/edge"


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def is_there(result: Result, folder: Path) -> bool:
    return is_published(folder, result.steps, digest_of(result.recipe, result.lock, result.fragments))


def test_everything_people_need_is_in_one_folder(result: Result, out: Path) -> None:
    image = publish(result, out)
    assert (image.folder, image.changed, image.recipe) == (out, True, result.recipe)
    assert listing(out) == {
        "vmlinuz", "initrd.img", "disk.img", "cmdline.txt", "image.json", "board.json", "lock.json", "build.log",
        "build.json", "manifest.json",
    }  # fmt: skip
    assert (out / "disk.img").read_text() == "disk"
    assert (out / "build.log").read_text() == "== built\n"
    assert load_lock(out / "lock.json") == result.lock
    told = json.loads((out / "image.json").read_text())
    plain = {"image": "edge", "architecture": "arm64", "test": ["base"], "ssh": True, "firewall": True}
    assert told == {**plain, "kubernetes": None, "modem": None, "gnss": None}
    assert json.loads((out / "board.json").read_text())["board"] == "qemu-arm64"
    assert listing(out.parent) == {"edge"}


def test_reports_are_written_when_everything_else_is_there(result: Result, out: Path) -> None:
    publish(result, out)
    seen = json.loads((out / "manifest.json").read_text())
    assert seen["keys"] == {"kernel": "k1", "image": "k2"}
    assert {"disk.img", "lock.json"} <= set(seen["files"])


def test_holes_of_a_disk_stay_holes(result: Result, out: Path) -> None:
    with (result.stages["image"] / "disk.img").open("wb") as stream:
        stream.truncate(64 << 20)
    publish(result, out)
    status = (out / "disk.img").stat()
    assert status.st_size == 64 << 20
    assert status.st_blocks * 512 < 1 << 20


def test_a_new_image_replaces_the_old_folder_whole(result: Result, out: Path) -> None:
    publish(result, out)
    (out / "mine.txt").touch()
    (result.stages["image"] / "disk.img").write_text("new disk")
    publish(result, out)
    assert (out / "disk.img").read_text() == "new disk"
    assert "mine.txt" not in listing(out)
    assert listing(out.parent) == {"edge"}


@pytest.mark.parametrize(
    "error", [TargetError("over its budget"), OSError(28, "x"), KeyboardInterrupt(), SystemExit(1)]
)
def test_the_old_image_stays_when_the_new_one_is_not_whole(
    result: Result, out: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    publish(result, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def breaks(*_: object, **__: object) -> None:
        raise error

    (result.stages["image"] / "disk.img").write_text("new disk")
    monkeypatch.setattr(module, "write_reports", breaks)
    with pytest.raises((CumuletError, type(error))):
        publish(result, out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert listing(out.parent) == {"edge"}
    assert is_there(result, out)


def test_a_full_disk_is_named_with_the_folder_of_the_image(
    result: Result, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfile", full)
    with pytest.raises(ToolError) as caught:
        publish(result, out)
    assert (caught.value.message, caught.value.exit_code) == (f"{out}: no space left on this disk", 3)
    assert "--out" in caught.value.hint
    assert list(out.parent.iterdir()) == []


def test_a_file_that_cannot_be_copied_is_an_error_in_words_of_cp(
    result: Result, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.PUBLISHED, "kernel", ("folder",))
    (result.stages["kernel"] / "folder").mkdir()
    with pytest.raises(ToolError, match=r"^cp exited with code 1: .*omitting directory"):
        publish(result, out)
    assert list(out.parent.iterdir()) == []


# Up to date.


def test_a_published_image_is_known(result: Result, out: Path) -> None:
    assert not is_there(result, out)
    publish(result, out)
    assert is_there(result, out)


@pytest.mark.parametrize("damage", ["missing", "longer", "no build.json", "half build.json"])
def test_a_folder_with_something_gone_or_changed_is_not_up_to_date(result: Result, out: Path, damage: str) -> None:
    publish(result, out)
    if damage == "missing":
        (out / "initrd.img").unlink()
    if damage == "longer":
        (out / "disk.img").write_text("disk and more")
    if damage == "no build.json":
        (out / "build.json").unlink()
    if damage == "half build.json":
        os.truncate(out / "build.json", 10)
    assert not is_there(result, out)


def test_other_stages_are_another_image(result: Result, out: Path) -> None:
    publish(result, out)
    for steps in (
        make_steps(kernel="k1", image="k3"),
        make_steps(kernel="k1"),
        make_steps(kernel="k1", image="k2", x="y"),
    ):
        assert not is_there(replace(result, steps=steps), out)


@pytest.mark.parametrize("text", ["test: []\n", "size_budget: {disk: 1MiB}\n", "title: Other\n"])
def test_what_only_the_documents_say_is_published_anew_too(result: Result, out: Path, write: Write, text: str) -> None:
    publish(result, out)
    other = load_recipe(write("o.yaml", HEAD + text))
    assert not is_there(replace(result, recipe=other), out)
    assert not is_there(replace(result, lock=make_lock(epoch=2)), out)
    assert is_there(replace(result, recipe=load_recipe(write("o.yaml", HEAD))), out)


# After kill -9.


@pytest.fixture
def killed(out: Path, write: Write) -> Path:
    """What stays beside an image when its builds are killed, and folders that only look like it."""
    for name in (".tmp-edge-abcdefgh", ".tmp-edge-two-abcdefgh", ".old-edge-two-7", ".old-edge-mine", "other"):
        write(f"out/{name}/x", name)
    return out


def test_halves_of_killed_builds_are_cleared_up_and_nothing_else(killed: Path, write: Write) -> None:
    write("out/edge/x", "image")
    write("out/.old-edge-123/x", "older")
    clear_up(killed)
    left = {".tmp-edge-two-abcdefgh", ".old-edge-two-7", ".old-edge-mine", "other", "edge"}
    assert listing(killed.parent) == left
    clear_up(killed)
    assert listing(killed.parent) == left


def test_killed_between_two_renames_the_last_whole_image_comes_back(killed: Path, write: Write) -> None:
    write("out/.old-edge-123/x", "last image")
    clear_up(killed)
    assert (killed / "x").read_text() == "last image"
