"""build, plan, lock and vendor: options in, one call, an answer for people or in JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder import build as module
from cumulet_builder.cache import open_cache
from cumulet_builder.cli import main
from cumulet_builder.commands.progress import Lines
from cumulet_builder.engines.debian.lock import Lock, Request, load_lock
from cumulet_builder.plan import Stage, Step
from cumulet_builder.publish import Image
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.settings import Settings

Write = Callable[[str, str], Path]
Capture = pytest.CaptureFixture[str]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"


def make_lock() -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = dict.fromkeys(("suite", "architecture", "host_architecture"), "arm64")
    return Lock(image="edge", epoch=1, request=Request.model_validate({**nothing, **text}), packages=())


@pytest.fixture
def recipe(write: Write) -> Path:
    return write("edge.yaml", HEAD)


@pytest.fixture
def calls(recipe: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, Settings]]:
    """The recipe and settings that the functions behind the commands were called with."""
    seen: list[tuple[Path, Settings]] = []

    def build(path: Path, settings: Settings, lines: Lines) -> Image:
        seen.append((path, settings))
        lines.say("edge: lock: new")
        return Image(here / "out/edge", load_recipe(path), changed=len(seen) == 1)

    def plan(path: Path, settings: Settings) -> module.Planned:
        seen.append((path, settings))
        stages = [Stage(name, {}, lambda workshop: None) for name in ("tools", "kernel")]
        steps = (Step(stages[0], "k1", False, "in the cache"), Step(stages[1], "k2", True, "changed: code"))
        cache = open_cache(here / "cache")
        return module.Planned(load_recipe(path), make_lock(), "the last build", tuple(stages), steps, cache, ())

    def make(path: Path, settings: Settings) -> Lock:
        seen.append((path, settings))
        return make_lock()

    def vendor(path: Path, settings: Settings, store: Path, lines: Lines) -> tuple[int, int]:
        seen.append((path, settings))
        return 3, 7

    for name, function in {"build": build, "plan": plan, "make_lock": make, "vendor_lock": vendor}.items():
        monkeypatch.setattr(module, name, function)
    return seen


def run(capsys: Capture, *words: str) -> str:
    """The answer of a command that does well."""
    assert main(list(words)) == 0
    return capsys.readouterr().out


def answer(capsys: Capture, *words: str) -> Any:
    return json.loads(run(capsys, *words, "--json"))


def test_every_option_reaches_the_build(calls: list[tuple[Path, Settings]], recipe: Path, capsys: Capture) -> None:
    words = ["--set", "sdk=true", "--set", "packages+=vim", "--out", "o", "--cache", "c", "--mirror", "m"]
    run(capsys, "build", "edge.yaml", *words, "--lock", "l", "--update", "--vendor", "v")
    settings = Settings(Path("o"), Path("c"), ("sdk=true", "packages+=vim"), "m", Path("l"), True, Path("v"))
    assert calls == [(Path("edge.yaml"), settings)]


def test_what_nobody_says_is_the_users_folders(calls: list[tuple[Path, Settings]], here: Path, capsys: Capture) -> None:
    run(capsys, "build", "edge.yaml")
    assert calls[0][1] == Settings(out=Path("out"), cache=here.parent / "cache/cumulet")


def test_a_build_says_where_the_image_is(calls: list[tuple[Path, Settings]], here: Path, capsys: Capture) -> None:
    assert run(capsys, "build", "edge.yaml") == f"edge: built: {here}/out/edge\n"
    assert run(capsys, "build", "edge.yaml") == f"edge: up to date: {here}/out/edge\n"


def test_a_build_in_json_says_nothing_else(calls: list[tuple[Path, Settings]], here: Path, capsys: Capture) -> None:
    assert main(["build", "edge.yaml", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out) == {"image": "edge", "folder": f"{here}/out/edge", "changed": True}
    assert err == ""


def test_a_plan_has_a_line_for_every_stage_with_its_reason(calls: list[tuple[Path, Settings]], capsys: Capture) -> None:
    assert run(capsys, "plan", "edge.yaml").splitlines() == [
        "edge: lock: the last build",
        "  have  tools        in the cache",
        "  run   kernel       changed: code",
    ]
    assert answer(capsys, "plan", "edge.yaml") == {
        "image": "edge",
        "lock": "the last build",
        "stages": [
            {"stage": "tools", "key": "k1", "run": False, "reason": "in the cache"},
            {"stage": "kernel", "key": "k2", "run": True, "reason": "changed: code"},
        ],
    }


def test_a_lock_is_written_beside_its_recipe_or_where_it_is_asked_for(
    calls: list[tuple[Path, Settings]], here: Path, capsys: Capture
) -> None:
    assert run(capsys, "lock", "edge.yaml") == "edge.lock.json: 0 packages, 0 wheels\n"
    assert load_lock(here / "edge.lock.json") == make_lock()
    assert answer(capsys, "lock", "edge.yaml", "-o", "x/other.json") == {
        "lock": "x/other.json", "packages": 0, "wheels": 0
    }  # fmt: skip
    assert load_lock(here / "x/other.json") == make_lock()


def test_vendoring_says_how_much_is_new(calls: list[tuple[Path, Settings]], capsys: Capture) -> None:
    assert run(capsys, "vendor", "edge.yaml", "--to", "s") == "s: 7 files, 3 of them new; build with --vendor s\n"
    assert answer(capsys, "vendor", "edge.yaml", "--to", "s") == {"store": "s", "copied": 3, "files": 7}


def test_an_error_of_a_build_is_its_exit_code(recipe: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> Image:
        raise ToolError("kernel: depmod exited with code 1", hint="its whole output is in the build log")

    monkeypatch.setattr(module, "build", breaks)
    assert main(["build", "edge.yaml"]) == 3
    assert capsys.readouterr().err == (
        "error: kernel: depmod exited with code 1\nhint: its whole output is in the build log\n"
    )


@pytest.mark.parametrize("command", ["build", "plan", "lock"])
def test_a_recipe_that_is_not_there_is_said_before_anything_else(here: Path, capsys: Capture, command: str) -> None:
    assert main([command, "none.yaml"]) == 2
    assert capsys.readouterr().err.startswith("error: none.yaml: no such recipe\n")
    assert list(here.iterdir()) == []
