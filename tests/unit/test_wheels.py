"""Wheels: what pip is asked, how its answers are read, and how its errors are told."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian import wheels
from cumulet_builder.engines.debian.lock import LockedWheel
from cumulet_builder.engines.debian.pins import Target
from cumulet_builder.engines.debian.wheels import fetch_wheels, resolve_wheels

ARM = Target("arm64", "trixie")


class FakePip:
    """Answers instead of pip: writes the report, or the files that it is to download."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.report: object = {}
        self.files: dict[str, bytes] = {}
        self.code = 0
        self.err = ""

    def run(self, argv: Sequence[str | Path], *, check: bool) -> proc.Result:
        words = [str(word) for word in argv]
        self.calls.append(words)
        if "--report" in words:
            Path(words[words.index("--report") + 1]).write_text(json.dumps(self.report))
        if "--dest" in words:
            self.wanted = Path(words[words.index("-r") + 1]).read_text()
            for name, data in self.files.items():
                Path(words[words.index("--dest") + 1], name).write_bytes(data)
        return proc.Result(tuple(words), self.code, "", self.err)


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setattr(wheels.proc, "run", fake.run)
    return fake


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


def item(name: str, version: str, url: str) -> dict[str, object]:
    info = {"url": url, "archive_info": {"hashes": {"sha256": name[0] * 64}}}
    return {"metadata": {"name": name, "version": version}, "download_info": info}


def wheel(name: str, data: bytes) -> LockedWheel:
    return LockedWheel(name=name, version="1", file=f"{name}.whl", sha256=hashlib.sha256(data).hexdigest(), size=0)


# Resolving.


def test_no_names_ask_nobody(pip: FakePip, tmp_path: Path) -> None:
    assert resolve_wheels([], ARM, tmp_path, {}) == []
    assert pip.calls == []


def test_pip_chooses_for_the_images_python_and_architecture(pip: FakePip, tmp_path: Path) -> None:
    pip.report = {"install": []}
    resolve_wheels(["rich", "numpy==2"], ARM, tmp_path, {})
    (words,) = pip.calls
    assert {"--dry-run", "rich", "numpy==2", "--only-binary=:all:"} <= set(words)
    assert words[words.index("--python-version") + 1] == "3.13"
    platforms = [words[n + 1] for n, word in enumerate(words) if word == "--platform"]
    assert platforms
    assert all(name.endswith("_aarch64") for name in platforms)
    resolve_wheels(["rich"], Target("amd64", "trixie"), tmp_path, {})
    assert all(name.endswith("_x86_64") for name in pip.calls[1] if name.startswith("manylinux"))


def test_the_report_becomes_wheels_in_the_order_of_their_names(pip: FakePip, tmp_path: Path) -> None:
    pip.report = {
        "install": [
            item("rich", "14", "http://127.0.0.1/p/rich-14-py3-none-any.whl"),
            item("PyYAML", "6", "http://127.0.0.1/p/pyyaml-6.whl"),
            item("click", "8+local.1", "http://127.0.0.1/p/click-8%2Blocal.1-py3-none-any.whl"),
        ]
    }
    found = resolve_wheels(["rich"], ARM, tmp_path, {})
    assert [(each.name, each.version, each.file) for each in found] == [
        ("click", "8+local.1", "click-8+local.1-py3-none-any.whl"),
        ("PyYAML", "6", "pyyaml-6.whl"),
        ("rich", "14", "rich-14-py3-none-any.whl"),
    ]
    assert found[2].sha256 == "r" * 64


def test_another_release_has_another_python_and_c_library(pip: FakePip, tmp_path: Path) -> None:
    pip.report = {"install": []}
    resolve_wheels(["rich"], Target("arm64", "bookworm"), tmp_path, {})
    (words,) = pip.calls
    assert words[words.index("--python-version") + 1] == "3.11"
    assert "manylinux_2_36_aarch64" in words
    assert "manylinux_2_39_aarch64" not in words
    with pytest.raises(UsageError, match=r"^suite: no Python known for sid$"):
        resolve_wheels(["rich"], Target("arm64", "sid"), tmp_path, {})


def test_pinned_packages_are_taken_as_they_are_and_others_near_them(pip: FakePip, tmp_path: Path) -> None:
    url = "http://127.0.0.1/p/rich-14-py3-none-any.whl"
    pip.report = {"install": [item("rich", "14", url)]}
    hashes = {"rich==14": ["r" * 64, "0" * 64]}
    found = resolve_wheels(["rich==14", "numpy"], ARM, tmp_path, hashes)
    assert [each.name for each in found] == ["rich"]
    free, pinned = pip.calls
    assert {"-c", "numpy"} <= set(free)
    assert (tmp_path / "near.txt").read_text() == "rich==14\n"
    assert {"--no-deps", "--require-hashes"} <= set(pinned)
    assert (tmp_path / "pinned.txt").read_text() == f"rich==14 --hash=sha256:{'0' * 64} --hash=sha256:{'r' * 64}\n"


def test_a_file_that_the_pins_do_not_know_is_refused(pip: FakePip, tmp_path: Path) -> None:
    pip.report = {"install": [item("rich", "14", "http://127.0.0.1/p/rich-14.whl")]}
    with pytest.raises(ToolError) as caught:
        resolve_wheels(["rich==14"], ARM, tmp_path, {"rich==14": ["0" * 64]})
    assert caught.value.message == "rich-14.whl: not one of the files that the lock knows"


# Fetching.


def test_only_missing_wheels_are_fetched_each_with_its_checksum(pip: FakePip, cache: Cache) -> None:
    one, two = wheel("one", b"1"), wheel("two", b"2")
    pip.files = {"one.whl": b"1"}
    fetch_wheels([one], ARM, cache)
    pip.files = {"two.whl": b"2"}
    fetch_wheels([one, two], ARM, cache)
    assert pip.wanted == f"two==1 --hash=sha256:{two.sha256}"
    assert {"--require-hashes", "--no-deps"} <= set(pip.calls[1])
    fetch_wheels([one, two], ARM, cache)
    assert len(pip.calls) == 2
    assert cache.file(two.sha256).read_bytes() == b"2"
    assert list((cache.root / "tmp").iterdir()) == []


def test_a_wheel_with_the_wrong_content_stays_out(pip: FakePip, cache: Cache) -> None:
    one = wheel("one", b"1")
    pip.files = {"one.whl": b"evil"}
    with pytest.raises(ToolError, match=r"^one.whl: wrong checksum: expected sha256"):
        fetch_wheels([one], ARM, cache)
    assert not cache.have_file(one.sha256)


# Errors. The words are pip's own.

NOTHING = "ERROR: Could not find a version that satisfies the requirement rihc (from versions: none)\n"
NO_MATCH = "ERROR: No matching distribution found for rihc\n"
RETRY = (
    "WARNING: Retrying (Retry(total=0, connect=None, read=None, redirect=None, status=None)) after connection broken "
    "by 'NewConnectionError(': Failed to establish a new connection: [Errno 111] Connection refused')': /simple/rich/\n"
)


def test_a_name_that_nobody_has_is_an_error_of_the_recipe(pip: FakePip, tmp_path: Path) -> None:
    pip.code, pip.err = 1, NOTHING + NO_MATCH
    with pytest.raises(UsageError) as caught:
        resolve_wheels(["rihc"], ARM, tmp_path, {})
    assert caught.value.message == "wheels: No matching distribution found for rihc"
    assert caught.value.hint == "check the names under `wheels:` in the recipe"


def test_an_index_that_cannot_be_reached_is_not_blamed_on_the_recipe(pip: FakePip, tmp_path: Path) -> None:
    pip.code, pip.err = 1, RETRY + NOTHING + NO_MATCH
    with pytest.raises(ToolError) as caught:
        resolve_wheels(["rich"], ARM, tmp_path, {})
    assert caught.value.message == "wheels: pip exited with code 1: No matching distribution found for rihc"
    assert caught.value.hint == "is the package index reachable?"


@pytest.mark.parametrize(
    ("err", "words"),
    [
        ("ERROR: HTTP error 403\n", "HTTP error 403"),
        ("Traceback:\nboom\n", "Traceback:\nboom"),
        ("", ""),
    ],
)
def test_every_other_end_of_pip_is_told_in_its_words(pip: FakePip, cache: Cache, err: str, words: str) -> None:
    pip.code, pip.err = 2, err
    with pytest.raises(ToolError) as caught:
        fetch_wheels([wheel("one", b"1")], ARM, cache)
    assert caught.value.message == f"wheels: pip exited with code 2: {words}"
    assert list((cache.root / "tmp").iterdir()) == []
