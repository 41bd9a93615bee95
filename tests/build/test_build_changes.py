"""What a change of the recipe builds anew, and what a wrong recipe says."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet_builder.cache import default_root

pytestmark = pytest.mark.build

RECIPE = "version: 1\nimage: base-amd64\ntitle: A test\nboard: qemu-amd64\nfeatures: [base]\n"
FILE = "files: [{path: /etc/motd, content: Hello}]\n"
Write = Callable[[str], Path]


@pytest.fixture
def recipe(room: Path) -> Write:
    """Write a recipe of the user's own: the base image and some lines."""

    def write(lines: str, text: str = RECIPE) -> Path:
        path = room / "mine.yaml"
        path.write_text(text + lines)
        return path

    return write


@pytest.fixture
def online(twin, store):
    """A builder that may ask the real mirror, with this computer's package lists and the lock of its last build."""
    builder = twin()
    lists = default_root() / "apt"
    if lists.is_dir():
        shutil.copytree(lists, builder.cache / "apt", symlinks=True, copy_function=os.link)
    (builder.cache / "locks").mkdir()
    shutil.copyfile(store.locks["base-amd64"], builder.cache / "locks/base-amd64.json")
    options = builder.options
    return replace(builder, options=options[: options.index("--lock")])


def test_without_a_change_nothing_runs(amd64, published) -> None:
    image = amd64.out / "base-amd64"
    before = image.stat()
    assert amd64.plan("base-amd64") == {}
    done = amd64.run("build", "base-amd64")
    assert done.out == f"base-amd64: up to date: {image}\n"
    assert image.stat() == before


def test_one_changed_file_packs_the_root_again_and_nothing_below_it(twin, recipe) -> None:
    builder = twin()
    assert builder.plan(recipe("")) == {}
    path = recipe(FILE)
    assert builder.plan(path) == {
        "root": "changed: files",
        "erofs": "changed: root",
        "image": "changed: root, erofs",
    }
    builder.run("build", path)
    assert builder.plan(path) == {}
    # And back: everything is still there.
    assert builder.plan(recipe("")) == {}


def test_one_more_package_is_put_on_top_of_the_others(online, recipe) -> None:
    """The mirror has moved on since the last lock, whose versions and date are kept."""
    path = recipe("packages: [tree]\n")
    plan = online.plan(path)
    assert set(plan) == {"packages", "root", "erofs", "image"}
    online.run("build", path)
    lock = json.loads((online.out / "base-amd64/lock.json").read_text())
    assert [each["name"] for each in lock["packages"] if each["group"] == "extra"] == ["tree"]
    key = json.loads((online.out / "base-amd64/manifest.json").read_text())["stages"]["root"]
    with tarfile.open(online.cache / "stages/root" / key / "root.tar") as root:
        assert root.getmember("usr/bin/tree").mode == 0o755


def test_an_image_over_its_budget_is_not_published_and_the_old_one_stays(twin, amd64, published) -> None:
    builder = twin()
    image = shutil.copytree(amd64.out / "base-amd64", builder.out / "base-amd64", copy_function=os.link)
    before = published(image)
    done = builder.run("build", "base-amd64", "--set", "size_budget.root=1MiB", code=4)
    first, second, hint = done.err.splitlines()[-3:]
    assert first.startswith("error: base-amd64: root takes ")
    assert first.endswith(" more than its budget of 1.0 MiB")
    assert second.startswith("biggest packages, compressed: ")
    assert len(second.split(", ")) > 4
    assert hint.startswith("hint: ")
    assert "size_budget.root" in hint
    assert published(image) == before
    assert builder.run("build", "base-amd64").out == f"base-amd64: up to date: {image}\n"


# What is wrong -> the lines of the recipe, and what the message names.
WRONG_RECIPES = {
    "a board that nobody has": ("board: qemu-amd65\n", "mine.yaml:5:8: unknown board 'qemu-amd65'"),
    "a package that nobody has": ("packages: [no-such-package]\n", "Unable to locate package no-such-package"),
    "packages that exclude each other": ("packages: [chrony]\n", "chrony : Conflicts: time-daemon"),
    "a kernel module that nobody has": (
        "modules: [no_such_one]\n",
        "kernel: base-amd64: no kernel module 'no_such_one'",
    ),
}


@pytest.mark.parametrize("what", WRONG_RECIPES)
def test_a_recipe_that_asks_for_what_there_is_not_is_told_so(online, recipe, what: str) -> None:
    lines, named = WRONG_RECIPES[what]
    text = RECIPE.replace("board: qemu-amd64\n", "") if lines.startswith("board") else RECIPE
    done = online.run("build", recipe(lines, text), code=2)
    assert named in done.error
    assert not (online.out / "base-amd64").exists()


@pytest.mark.parametrize(
    ("url", "code", "message"),
    [
        ("http://127.0.0.1:1/debian", 3, "package lists of trixie: "),
        ("ftp://127.0.0.1/debian", 2, "--mirror ftp://127.0.0.1/debian: not an http, https or file address"),
    ],
)
def test_a_mirror_that_is_none(room, amd64, url: str, code: int, message: str) -> None:
    builder = replace(amd64, folder=room, options=("--mirror", url))
    done = builder.run("build", "base-amd64", code=code)
    assert done.error.startswith(message), done.err
    assert "--mirror URL" in done.err
    assert not (builder.out / "base-amd64").exists()


def test_what_is_vendored_already_is_not_copied_again(amd64, store) -> None:
    done = amd64.run("vendor", "base-amd64", "--to", store.folder)
    assert ", 0 of them new;" in done.out
