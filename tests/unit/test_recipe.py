"""Recipes: what comes with cumulet, and how fragments become one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.assets import find_assets
from cumulet_builder.recipe.load import find_recipe, load_recipe, resolve_recipe
from cumulet_builder.recipe.model import parse_size

Write = Callable[[str, str], Path]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
K8S = "features: [base, containers]\nkubernetes: {distribution: k3s}\n"


def origin(path: Path, *key: str | int) -> str:
    value = resolve_recipe(path).document.at(key)
    assert value is not None
    return f"{value.place.file}:{value.place.line}"


# What comes with cumulet.


@pytest.mark.parametrize("path", sorted((find_assets("recipes") / "images").glob("*.yaml")), ids=lambda path: path.stem)
def test_bundled_images_resolve(path: Path) -> None:
    recipe = load_recipe(path)
    assert recipe.image == path.stem
    assert recipe.title
    assert recipe.board.qemu is not None
    assert recipe.size_budget.root is not None
    assert "systemd" in recipe.base_packages
    assert recipe.packages == ()


@pytest.mark.parametrize("path", sorted((find_assets("recipes") / "boards").glob("*.yaml")), ids=lambda path: path.stem)
def test_bundled_boards_carry_their_own_name(write: Write, path: Path) -> None:
    recipe = load_recipe(write("r.yaml", f"version: 1\nimage: x\nboard: {path.stem}\n"))
    assert recipe.board.board == path.stem
    assert recipe.board.title


@pytest.mark.parametrize(
    "path", sorted((find_assets("recipes") / "features").glob("*.yaml")), ids=lambda path: path.stem
)
def test_bundled_features_resolve(write: Write, path: Path) -> None:
    assert path.stem in load_recipe(write("r.yaml", f"{HEAD}features: [{path.stem}]\n")).features


def test_the_kubernetes_images_differ_in_their_distribution_only() -> None:
    kubeadm, k3s = (load_recipe(find_recipe(name)) for name in ("qemu-arm64", "qemu-arm64-k3s"))
    assert kubeadm.kubernetes is not None
    assert k3s.kubernetes is not None
    assert (kubeadm.kubernetes.distribution, kubeadm.kubernetes.source) == ("kubeadm", "modules")
    assert (k3s.kubernetes.distribution, k3s.kubernetes.source) == ("k3s", "release")
    assert (kubeadm.test, k3s.test) == (("base", "kubernetes"), ("base", "k3s"))
    varying = {"image", "title", "kubernetes", "test"}
    assert kubeadm.model_dump(exclude=varying) == k3s.model_dump(exclude=varying)


def test_find_recipe(write: Write) -> None:
    assert find_recipe("qemu-arm64") == find_assets("recipes") / "images" / "qemu-arm64.yaml"
    assert find_recipe(str(write("a.yaml", ""))).name == "a.yaml"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("qemu-arm46", "did you mean 'qemu-arm64'?"),
        ("zzz", "cumulet recipes lists what is here; cumulet new NAME starts one"),
        ("./qemu-arm64", "did you mean 'qemu-arm64'?"),
    ],
)
def test_unknown_recipe(here: Path, name: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        find_recipe(name)
    assert (caught.value.message, caught.value.hint) == (f"{name}: no such recipe", hint)


# Merging.


def test_mappings_merge_lists_append_scalars_are_replaced(write: Write) -> None:
    write("a.yaml", "version: 1\npackages: [one, two]\ndisk: {root: 200MiB, esp: 100MiB}\nsuite: forky\n")
    write("b.yaml", "version: 1\npackages: [two, three]\ndisk: {root: 210MiB}\n")
    path = write("r.yaml", f"{HEAD}include: [a.yaml, b.yaml]\npackages: [four, one]\nsuite: trixie\n")
    recipe = load_recipe(path)
    assert recipe.packages == ("one", "two", "three", "four")
    assert (recipe.disk.root, recipe.disk.esp, recipe.suite) == ("210MiB", "100MiB", "trixie")


def test_every_value_keeps_its_place(write: Write) -> None:
    write("a.yaml", "version: 1\npackages: [one]\ndisk:\n  root: 200MiB\n")
    path = write("r.yaml", f"{HEAD}include: [a.yaml]\npackages: [four]\n")
    assert origin(path, "packages", 0) == "a.yaml:2"
    assert origin(path, "packages", 1) == "r.yaml:5"
    assert origin(path, "disk", "root") == "a.yaml:4"
    assert origin(path, "board", "architecture").endswith("recipes/boards/qemu-arm64.yaml:5")


def test_board_then_includes_then_features_then_image(write: Write) -> None:
    write(
        "board.yaml",
        "version: 1\nboard: mine\ntitle: Mine\narchitecture: arm64\nkernel: {package: linux-image-arm64}\n"
        "defaults: {suite: board, sdk: true, formats: [tar], features: [base]}\n",
    )
    write("a.yaml", "version: 1\nsuite: include\nformats: [oci]\n")
    recipe = load_recipe(
        write("r.yaml", "version: 1\nimage: edge\nboard: ./board.yaml\ninclude: [a.yaml]\nformats: [disk]\n")
    )
    assert (recipe.suite, recipe.sdk, recipe.formats) == ("include", True, ("tar", "oci", "disk"))
    assert recipe.features == ("base",)
    assert recipe.board.defaults == {}


def test_boards_share_what_they_have_in_common(write: Write) -> None:
    write("soc.yaml", "version: 1\narchitecture: arm64\nkernel: {package: linux-image-arm64, modules: [a]}\n")
    write("board.yaml", "version: 1\ninclude: [soc.yaml]\nboard: mine\ntitle: Mine\nkernel: {modules: [b]}\n")
    board = load_recipe(write("r.yaml", "version: 1\nimage: edge\nboard: board.yaml\n")).board
    assert (board.board, board.kernel.package, board.kernel.modules) == ("mine", "linux-image-arm64", ("a", "b"))


def test_packages_of_features_are_the_base_and_those_of_the_image_come_on_top(write: Write) -> None:
    recipe = load_recipe(write("r.yaml", f"{HEAD}features: [base]\npackages: [htop]\n"))
    assert recipe.packages == ("htop",)
    assert "htop" not in recipe.base_packages
    assert "openssh-server" in recipe.base_packages


def test_a_feature_brings_what_it_needs_first(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(write, monkeypatch)
    write("recipes/features/top.yaml", "version: 1\ntitle: T\nfeatures: [low]\npackages: [top]\nsuite: top\n")
    write("recipes/features/low.yaml", "version: 1\ntitle: L\nfeatures: [top]\npackages: [low]\nsuite: low\n")
    recipe = load_recipe(write("r.yaml", "version: 1\nimage: x\nboard: tiny\nfeatures: [top, low, top]\n"))
    assert recipe.features == ("low", "top")
    assert recipe.base_packages == ("low", "top")
    assert recipe.suite == "top"
    assert recipe.title == ""


def test_features_may_write_base_packages_too(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle(write, monkeypatch)
    write("recipes/features/both.yaml", "version: 1\ntitle: B\nbase_packages: [one]\npackages: [two]\n")
    recipe = load_recipe(write("r.yaml", "version: 1\nimage: x\nboard: tiny\nfeatures: [both]\n"))
    assert recipe.base_packages == ("one", "two")


def bundle(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A recipes folder of our own with the board `tiny`."""
    path = write(
        "recipes/boards/tiny.yaml",
        "version: 1\nboard: tiny\ntitle: Tiny\narchitecture: arm64\nkernel: {package: linux-image-arm64}\n",
    )
    monkeypatch.setattr("cumulet_builder.recipe.load.find_assets", lambda name: path.parents[1])


def test_a_file_included_twice_counts_once(write: Write) -> None:
    write("a.yaml", "version: 1\ninclude: [c.yaml]\nsuite: a\n")
    write("b.yaml", "version: 1\ninclude: [c.yaml]\n")
    write("c.yaml", "version: 1\nsuite: c\n")
    assert load_recipe(write("r.yaml", f"{HEAD}include: [a.yaml, b.yaml]\n")).suite == "a"


def test_includes_below_are_relative_to_the_file_that_names_them(write: Write) -> None:
    write("parts/a.yaml", "version: 1\ninclude: [more/b.yaml]\n")
    write("parts/more/b.yaml", "version: 1\nfiles: [{path: /etc/x, source: x.txt}]\n")
    source = write("parts/more/x.txt", "x")
    recipe = load_recipe(write("r.yaml", f"{HEAD}include: [parts/a.yaml]\n"))
    assert recipe.files[0].source == str(source)


def test_files_of_a_k3s_source_are_relative_to_their_fragment(write: Write, here: Path) -> None:
    text = f"{HEAD}{K8S}".replace("k3s}", "k3s, source: file, files: {binary: dl/k3s, images: /srv/i.tar}}")
    recipe = load_recipe(write("r/r.yaml", text))
    assert recipe.kubernetes is not None
    assert recipe.kubernetes.files == {"binary": str(here / "r/dl/k3s"), "images": "/srv/i.tar"}


def test_parse_size() -> None:
    assert [parse_size(text) for text in ("7", "1 KiB", "400MiB", "2GB")] == [7, 1024, 400 << 20, 2 * 10**9]
    with pytest.raises(ValueError, match="not a size: '4 gigs'; write it like 400MiB"):
        parse_size("4 gigs")
