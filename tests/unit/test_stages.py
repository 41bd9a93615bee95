"""The stages of a build: in an order that works, each with all that decides it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from cumulet.core.errors import TargetError, UsageError
from cumulet_builder import kubernetes
from cumulet_builder.cache import Cache, make_key, open_cache
from cumulet_builder.engines.debian import stages as module
from cumulet_builder.engines.debian.lock import Group, Lock, LockedPackage, Request
from cumulet_builder.engines.debian.stages import UNDATED, find_package, make_stages
from cumulet_builder.engines.table import ENGINES
from cumulet_builder.plan import Stage, Workshop, make_plan
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.model import Recipe

Write = Callable[[str, str], Path]
EPOCH = 1_700_000_000
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
PACKAGES: dict[str, Group] = {
    "bash": "base",
    "vim": "extra",
    "busybox-static": "boot",
    "linux-image-6.12-arm64": "boot",
    "systemd-boot-efi": "boot",
    "erofs-utils": "tools",
    "vim-twin": "twins",
}


def package(name: str, group: Group) -> LockedPackage:
    fields = {"name": name, "version": "1", "architecture": "arm64", "sha256": f"sha of {name}", "size": 1}
    return LockedPackage.model_validate({**fields, "source": "x", "section": "x", "path": name, "group": group})


def make_lock(epoch: int = EPOCH, without: str = "") -> Lock:
    nothing: dict[str, object] = dict.fromkeys(Request.model_fields, ())
    text: dict[str, object] = {"suite": "trixie", "architecture": "arm64", "host_architecture": "amd64"}
    packages = tuple(package(name, group) for name, group in PACKAGES.items() if name != without)
    return Lock(image="edge", epoch=epoch, request=Request.model_validate({**nothing, **text}), packages=packages)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return open_cache(tmp_path / "cache")


@pytest.fixture
def recipe(write: Write) -> Recipe:
    return load_recipe(write("r.yaml", HEAD))


@pytest.fixture
def with_kubernetes(write: Write, monkeypatch: pytest.MonkeyPatch) -> Recipe:
    """A recipe with Kubernetes, whose stages do nothing."""
    made = [Stage("programs", {"x": "1"}, nothing, ("tools",)), Stage("kubernetes", {"x": "1"}, nothing, ("programs",))]
    monkeypatch.setattr(kubernetes, "make_stages", lambda recipe, around: made)
    text = "features: [base, containers]\nkubernetes: {distribution: kubeadm}\n"
    return load_recipe(write("k.yaml", HEAD + text))


def nothing(workshop: Workshop) -> None:
    pass


def keys(made: list[Stage], cache: Cache) -> dict[str, str]:
    return {step.stage.name: step.key for step in make_plan(made, cache, {})}


def test_everything_that_a_stage_needs_comes_before_it(with_kubernetes: Recipe, cache: Cache) -> None:
    made = make_stages(with_kubernetes, make_lock(), cache)
    names = [stage.name for stage in made]
    assert names == [
        "tools", "base", "packages", "kernel", "initramfs", "programs", "kubernetes", "sdk", "root", "erofs", "image"
    ]  # fmt: skip
    for place, stage in enumerate(made):
        assert set(stage.needs) <= set(names[:place]), stage.name
    assert "kubernetes" in made[-1].needs


def test_without_kubernetes_nothing_of_it_is_made(recipe: Recipe, cache: Cache) -> None:
    made = make_stages(recipe, make_lock(), cache)
    assert "kubernetes" not in {name for stage in made for name in (stage.name, *stage.needs)}


def test_every_package_is_read_by_the_stage_that_says_so(recipe: Recipe, cache: Cache) -> None:
    made = make_stages(recipe, make_lock(), cache)
    assert {stage.name: stage.files for stage in made if stage.files} == {
        "tools": ("sha of erofs-utils",),
        "base": ("sha of bash",),
        "packages": ("sha of vim", "sha of vim-twin"),
        "kernel": ("sha of linux-image-6.12-arm64",),
        "initramfs": ("sha of busybox-static",),
        "image": ("sha of systemd-boot-efi",),
    }


def test_another_date_is_another_result_of_everything_that_is_dated(with_kubernetes: Recipe, cache: Cache) -> None:
    before = keys(make_stages(with_kubernetes, make_lock(), cache), cache)
    after = keys(make_stages(with_kubernetes, make_lock(EPOCH + 1), cache), cache)
    assert {name for name in before if before[name] == after[name]} == set(UNDATED) & set(before)


def test_a_file_more_changes_the_root_and_what_is_made_of_it(recipe: Recipe, cache: Cache, write: Write) -> None:
    before = keys(make_stages(recipe, make_lock(), cache), cache)
    other = load_recipe(write("o.yaml", f"{HEAD}files: [{{path: /etc/motd, content: x}}]\n"))
    after = keys(make_stages(other, make_lock(), cache), cache)
    assert {name for name in before if before[name] != after[name]} == {"root", "erofs", "image"}


def test_the_same_recipe_and_lock_are_the_same_keys(recipe: Recipe, cache: Cache, tmp_path: Path) -> None:
    other = open_cache(tmp_path / "elsewhere")
    assert keys(make_stages(recipe, make_lock(), cache), cache) == keys(make_stages(recipe, make_lock(), other), other)


def test_tools_are_found_where_their_stage_leaves_them(recipe: Recipe, cache: Cache) -> None:
    tools = make_stages(recipe, make_lock(), cache)[0]
    toolbox = module._toolbox_of(tools, cache)()
    assert toolbox.root == cache.stage("tools", make_key("tools", tools.inputs, {})) / "tree"
    assert toolbox.root.parent.name == keys([tools], cache)["tools"]


@pytest.mark.parametrize("name", ["linux-image-", "busybox-static", "systemd-boot-efi"])
def test_a_lock_without_what_boots_is_said_to_be_so(recipe: Recipe, cache: Cache, name: str) -> None:
    full = next(each for each in PACKAGES if each.startswith(name))
    with pytest.raises(UsageError, match=f"^the lock of edge has no package {name}$") as caught:
        make_stages(recipe, make_lock(without=full), cache)
    assert caught.value.hint == "make it again: cumulet lock RECIPE"
    assert find_package(make_lock(), name).name == full


def test_a_kernel_that_will_not_do_is_refused_when_it_is_made(
    recipe: Recipe, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def make(workshop: Workshop) -> None:
        (workshop.folder / "kernel.json").write_text('{"modules": ["overlay"], "builtin": ["ext4"]}')
        (workshop.folder / "config").write_text("CONFIG_X=y\n")

    def check(recipe: Recipe, config: str, modules: list[str], builtin: list[str]) -> None:
        assert (config, modules, builtin) == ("CONFIG_X=y\n", ["overlay"], ["ext4"])
        raise TargetError("the kernel lacks CONFIG_Y")

    made = Stage("kernel", {"code": "1"}, make)
    monkeypatch.setattr(module.kernel, "make_stage", lambda *_, **__: made)
    monkeypatch.setattr(kubernetes, "check_kernel", check)
    stage = next(each for each in make_stages(recipe, make_lock(), cache) if each.name == "kernel")
    assert stage.inputs["checked for"] == "none"
    with pytest.raises(TargetError, match="the kernel lacks CONFIG_Y"):
        stage.make(replace(_workshop(cache, tmp_path), folder=tmp_path))


def _workshop(cache: Cache, folder: Path) -> Workshop:
    import io

    return Workshop(folder, {}, cache, io.StringIO(), EPOCH)


def test_debian_is_an_engine() -> None:
    assert ENGINES["debian"] is make_stages
