"""The store: files by their content, results of stages that are whole or not there."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.cache import Cache, default_root, make_key, open_cache, read_record


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def make(cache: Cache, **files: str) -> Path:
    """The stage `a` with key `k`: these files, and a folder `tree`."""
    with cache.making("a", "k", {"code": "1"}) as folder:
        for name, text in files.items():
            (folder / name).write_text(text)
        (folder / "tree").mkdir()
        (folder / "tree/inner").write_text("x")
    return cache.stage("a", "k")


# The folder itself.


def test_a_cache_says_what_it_is_and_opening_it_again_changes_nothing(tmp_path: Path) -> None:
    tag = open_cache(tmp_path / "c").root / "CACHEDIR.TAG"
    assert tag.read_text().startswith("Signature: 8a477f597d28d172789f06886806bc55\n")
    tag.write_text("kept")
    open_cache(tmp_path / "c")
    assert tag.read_text() == "kept"


def test_a_cache_that_cannot_be_made_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ToolError) as caught:
        open_cache(tmp_path / "file/cache")
    assert caught.value.message == f"{tmp_path}/file/cache: Not a directory"
    assert caught.value.hint == "name a folder you may write: --cache FOLDER"


def test_the_default_is_in_the_users_cache_folder(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_root() == here.parent / "cache/cumulet"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    assert default_root() == here.parent / "home/.cache/cumulet"


# Files.


def test_a_file_is_kept_under_its_content(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "new").write_bytes(b"hello")
    assert not cache.have_file(digest(b"hello"))
    assert cache.add_file(tmp_path / "new", digest(b"hello")) == cache.file(digest(b"hello"))
    assert cache.file(digest(b"hello")).read_bytes() == b"hello"
    assert not (tmp_path / "new").exists()
    assert cache.have_file(digest(b"hello"), 5)
    assert not cache.have_file(digest(b"hello"), 6)


def test_a_file_with_the_wrong_content_is_refused_and_removed(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "tool.deb").write_bytes(b"evil")
    with pytest.raises(ToolError) as caught:
        cache.add_file(tmp_path / "tool.deb", digest(b"good"))
    assert caught.value.message == (
        f"tool.deb: wrong checksum: expected sha256 {digest(b'good')}, got {digest(b'evil')}"
    )
    assert caught.value.hint == "the file was removed; run the same command again"
    assert not (tmp_path / "tool.deb").exists()
    assert not cache.have_file(digest(b"good"))


# Stages.


def test_a_stage_is_there_with_a_record_of_what_it_is(cache: Cache) -> None:
    folder = make(cache, b="bb", a="a")
    assert json.loads((folder / "stage.json").read_text()) == {
        "name": "a",
        "key": "k",
        "inputs": {"code": "1"},
        "files": {"a": {"size": 1, "sha256": digest(b"a")}, "b": {"size": 2, "sha256": digest(b"bb")}},
        "folders": ["tree"],
    }
    assert cache.have_stage("a", "k")
    assert cache.check_stage("a", "k") == []


def test_another_key_is_another_result(cache: Cache) -> None:
    make(cache, a="a")
    assert not cache.have_stage("a", "other")
    assert not cache.have_stage("b", "k")


@pytest.mark.parametrize("damage", ["missing", "truncated", "folder"])
def test_a_stage_with_something_gone_is_not_had(cache: Cache, damage: str) -> None:
    folder = make(cache, a="aaaa", b="b")
    if damage == "missing":
        (folder / "a").unlink()
    if damage == "truncated":
        os.truncate(folder / "a", 3)
    if damage == "folder":
        (folder / "tree/inner").unlink()
        (folder / "tree").rmdir()
    assert not cache.have_stage("a", "k")
    assert cache.check_stage("a", "k") == ["tree" if damage == "folder" else "a"]


def test_a_stage_with_other_content_of_the_same_size_is_found_by_reading_it(cache: Cache) -> None:
    folder = make(cache, a="aaaa")
    (folder / "a").write_text("abaa")
    assert cache.have_stage("a", "k")
    assert cache.check_stage("a", "k") == ["a"]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"inputs": {}}'])
def test_a_stage_whose_record_cannot_be_read_is_not_had(cache: Cache, text: str) -> None:
    folder = make(cache, a="a")
    (folder / "stage.json").write_text(text)
    assert read_record(folder) is None
    assert not cache.have_stage("a", "k")
    assert cache.check_stage("a", "k") == ["stage.json"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_half_made_stage_is_never_visible(cache: Cache, error: type[BaseException]) -> None:
    with pytest.raises(error), cache.making("a", "k", {}) as folder:
        (folder / "a").touch()
        assert not cache.have_stage("a", "k")
        raise error
    assert list((cache.root / "stages/a").iterdir()) == []
    make(cache, a="a")
    assert cache.have_stage("a", "k")


def test_a_full_disk_publishes_no_half_stage(cache: Cache) -> None:
    with pytest.raises(ToolError) as caught, cache.making("a", "k", {}) as folder:
        (folder / "a").touch()
        raise OSError(errno.ENOSPC, "No space left on device")
    assert caught.value.message == f"{cache.stage('a', 'k')}: no space left on this disk"
    assert caught.value.exit_code == 3
    assert "--cache" in caught.value.hint
    assert list((cache.root / "stages/a").iterdir()) == []


def test_a_dropped_stage_is_gone_and_dropping_it_again_is_fine(cache: Cache) -> None:
    folder = make(cache, a="a")
    for _ in range(2):
        cache.drop_stage("a", "k")
        assert not folder.exists()


# Scratch.


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt])
def test_scratch_is_empty_at_first_and_gone_at_last(cache: Cache, error: type[BaseException] | None) -> None:
    try:
        with cache.scratch("x") as folder:
            assert list(folder.iterdir()) == []
            (folder / "deep").mkdir()
            (folder / "deep/file").touch()
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt) as caught:
        assert type(caught) is error
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_full_disk_in_scratch_is_told_like_every_other(cache: Cache) -> None:
    with pytest.raises(ToolError, match="no space left on this disk"), cache.scratch("x"):
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_killed_builds_left_is_removed_by_who_comes_alone(cache: Cache) -> None:
    make(cache, a="a")
    left = [cache.root / "tmp/x-1", cache.root / "stages/a/.tmp-k-abcdefgh"]
    for folder in left:
        folder.mkdir(parents=True)
        (folder / "half").touch()
    with cache.in_use():
        assert [folder.exists() for folder in left] == [False, False]
        left[0].mkdir()
        with cache.in_use():
            assert left[0].exists()
    assert cache.have_stage("a", "k")


# Keys.


def test_a_key_depends_on_everything_but_the_order() -> None:
    key = make_key("a", {"x": "1", "y": "2"}, {"n": "k"})
    assert key == make_key("a", {"y": "2", "x": "1"}, {"n": "k"})
    others = [
        make_key("b", {"x": "1", "y": "2"}, {"n": "k"}),
        make_key("a", {"x": "1", "y": "3"}, {"n": "k"}),
        make_key("a", {"x": "1"}, {"n": "k"}),
        make_key("a", {"x": "1", "y": "2"}, {"n": "l"}),
        make_key("a", {"x": "1", "y": "2", "n": "k"}, {}),
    ]
    assert len({key, *others}) == 6
    assert len(key) == 32
