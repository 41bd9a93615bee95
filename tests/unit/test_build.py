"""A whole build, with stages of a few bytes: what runs, what is published, and what a second run does."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import locked
from cumulet_builder import build as module
from cumulet_builder import publish
from cumulet_builder.build import build, load_last, make_lock, plan, vendor_lock
from cumulet_builder.cache import Cache, open_cache
from cumulet_builder.engines.debian.fetch import Sources
from cumulet_builder.engines.debian.lock import Lock, LockedPackage, LockedWheel, Request
from cumulet_builder.engines.debian.settle import LockChoice
from cumulet_builder.engines.table import ENGINES
from cumulet_builder.plan import Stage, Step, Workshop
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.settings import Settings

Write = Callable[[str, str], Path]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"


@dataclass
class Said:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.lines.append(text)

    def step(self, step: Step, seconds: float) -> None:
        if seconds >= 0:
            self.ran.append(step.stage.name)

    def download(self) -> Callable[..., None] | None:
        return None


@dataclass
class World:
    """An engine of two stages, and everything that it was asked for."""

    recipe: Path
    settings: Settings
    fetched: list[set[str]] = field(default_factory=list)
    broken: BaseException | None = None

    def stages(self, recipe: Recipe, lock: Lock, cache: Cache) -> list[Stage]:
        def kernel(workshop: Workshop) -> None:
            (workshop.folder / "vmlinuz").write_text("kernel")

        def image(workshop: Workshop) -> None:
            (workshop.folder / "disk.img").write_text(" ".join(recipe.packages))
            if self.broken is not None:
                raise self.broken

        packages = " ".join(recipe.packages)
        return [
            Stage("kernel", {"code": "1"}, kernel, files=("k",)),
            Stage("image", {"packages": packages}, image, ("kernel",), files=("i",)),
        ]

    def fetch(self, lock: Lock, digests: Iterable[str], cache: Cache, sources: Sources, report: Any) -> None:
        self.fetched.append(set(digests))

    def run(self, **values: Any) -> tuple[bool, list[str]]:
        """Whether something was published, and the stages that ran."""
        said = Said()
        image = build(self.recipe, Settings(**{**vars(self.settings), **values}), said)
        assert said.lines == ["edge: lock: the last build"]
        assert image.folder == self.settings.out.absolute() / "edge"
        return image.changed, said.ran


def make_test_lock(request: Request) -> Lock:
    fields = {"name": "p", "version": "1", "architecture": "all", "sha256": "k", "size": 1, "source": "p"}
    package = LockedPackage.model_validate({**fields, "section": "x", "path": "p", "group": "base"})
    wheel = LockedWheel(name="w", version="1", file="w", sha256="w", size=0)
    return Lock(image="edge", epoch=1, request=request, packages=(package,), wheels=(wheel,))


@pytest.fixture
def world(write: Write, here: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(write("r.yaml", HEAD), Settings(out=Path("out"), cache=Path("cache")))
    monkeypatch.setitem(ENGINES, "debian", made.stages)
    monkeypatch.setattr(module, "fetch", made.fetch)
    monkeypatch.setattr(module, "settle_lock", lambda *words: (make_test_lock(words[2]), "the last build"))
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(publish, "write_reports", lambda *_, **__: None)
    return made


def test_a_build_says_what_nobody_has_seen_yet(world: World, tmp_path: Path) -> None:
    text = f"{HEAD}features: [gnss-beidou]\n"
    world.recipe.write_text(text)
    said = Said()
    settings = replace(world.settings, overrides=("board.gnss.untested=[beidou]",))
    build(world.recipe, settings, said)
    assert any(
        line.startswith("edge: gnss: beidou: asked for, not seen yet on QEMU virt machine") for line in said.lines
    )


def test_the_first_build_makes_everything_and_the_second_does_nothing(world: World, here: Path) -> None:
    assert world.run() == (True, ["kernel", "image"])
    assert world.fetched == [{"k", "i"}]
    before = (here / "out/edge").stat().st_mtime_ns
    assert world.run() == (False, [])
    assert len(world.fetched) == 1
    assert (here / "out/edge").stat().st_mtime_ns == before
    assert "== kernel: never built\n" in (here / "out/edge/build.log").read_text()


def test_a_change_runs_and_fetches_only_what_it_must(world: World) -> None:
    world.run()
    assert world.run(overrides=("packages+=vim",)) == (True, ["image"])
    assert world.fetched[1] == {"i"}


def test_what_only_the_documents_say_is_published_without_running_anything(world: World, here: Path) -> None:
    world.run()
    assert world.run(overrides=("test=[]",)) == (True, [])
    assert '"test": []' in (here / "out/edge/image.json").read_text()
    assert world.run(overrides=("test=[]",)) == (False, [])


def test_a_damaged_published_file_is_put_back_from_the_cache(world: World, here: Path) -> None:
    world.run()
    (here / "out/edge/vmlinuz").unlink()
    assert world.run() == (True, [])
    assert (here / "out/edge/vmlinuz").read_text() == "kernel"


@pytest.mark.parametrize("error", [ToolError("mkfs failed"), KeyboardInterrupt()])
def test_a_build_that_breaks_publishes_nothing_and_the_next_goes_on(
    world: World, here: Path, error: BaseException
) -> None:
    world.broken = error
    with pytest.raises(type(error)):
        world.run()
    assert not (here / "out/edge").exists()
    assert load_last(open_cache(here / "cache"), "edge") == {}
    world.broken = None
    assert world.run() == (True, ["image"])


def test_a_broken_change_leaves_the_image_that_there_was(world: World, here: Path) -> None:
    world.run()
    world.broken = ToolError("mkfs failed")
    with pytest.raises(ToolError, match=r"^image: mkfs failed$"):
        world.run(overrides=("packages+=vim",))
    assert (here / "out/edge/disk.img").read_text() == ""
    world.broken = None
    assert world.run() == (False, [])


def test_a_second_builder_of_the_same_image_is_told_of_the_first(world: World, here: Path) -> None:
    folder = here / "out/edge"
    with (
        locked(here / "out/.edge.lock", str(folder)),
        pytest.raises(ToolError, match=f"^{folder} is in use by process "),
    ):
        world.run()
    assert world.run()[0] is True


def test_a_plan_says_why_and_changes_nothing(world: World, here: Path) -> None:
    planned = plan(world.recipe, world.settings)
    assert [(step.stage.name, step.reason) for step in planned.steps] == [
        ("kernel", "never built"), ("image", "never built")
    ]  # fmt: skip
    assert planned.fragments[0].name == "r.yaml"
    assert not (here / "out").exists()
    world.run()
    changed = plan(world.recipe, Settings(**{**vars(world.settings), "overrides": ("packages+=vim",)}))
    assert [step.reason for step in changed.steps] == ["in the cache", "changed: packages"]


def test_vendoring_fetches_everything_the_lock_names(world: World, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []
    monkeypatch.setattr(module, "vendor", lambda lock, cache, store: asked.append(store) or (1, 2))
    assert vendor_lock(world.recipe, world.settings, Path("store"), Said()) == (1, 2)
    assert world.fetched == [{"k", "w"}]
    assert asked == [here / "store"]


def test_a_new_lock_is_made_whatever_lock_there_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[LockChoice] = []

    def resolve(image: str, request: Request, choice: LockChoice, cache: Cache) -> Lock:
        asked.append(choice)
        return make_test_lock(request)

    monkeypatch.setattr(module, "resolve", resolve)
    settings = Settings(**{**vars(world.settings), "lock": Path("old.json"), "update": True, "mirror": "m"})
    assert make_lock(world.recipe, settings).request.architecture == "arm64"
    assert asked == [LockChoice(None, True, "m")]


@pytest.mark.parametrize("text", ["", "{", "[1"])
def test_a_damaged_note_of_the_last_build_is_no_note(tmp_path: Path, text: str) -> None:
    cache = open_cache(tmp_path / "cache")
    (cache.root / "last").mkdir()
    (cache.root / "last/edge.json").write_text(text)
    assert load_last(cache, "edge") == {}


def test_an_engine_that_this_version_has_not_is_named(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ENGINES, "yocto")
    recipe = write("r.yaml", f"{HEAD}engine: yocto\n")
    with pytest.raises(UsageError, match="edge: engine: yocto is not in this version") as caught:
        plan(recipe, Settings(out=recipe.parent / "out", cache=recipe.parent / "cache"))
    assert caught.value.hint == "set it to debian, or leave it out"
