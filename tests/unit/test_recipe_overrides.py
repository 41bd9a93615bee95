"""`--set`: values of the command line over a recipe."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.errors import UsageError
from cumulet_builder.recipe.load import find_recipe, load_recipe

Write = Callable[[str, str], Path]
FORM = "write it as --set key=value, or --set key+=value to append to a list"
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(UsageError) as caught:
        load_recipe(path, overrides)
    return [str(each) for each in caught.value.problems]


def test_values_are_yaml(write: Write) -> None:
    recipe = load_recipe(
        write("r.yaml", f"{HEAD}packages: [one]\n"),
        ["disk.root=400MiB", "sdk=true", "node={role: none, hostname: a}", "packages=[two]", "title=a = b"],
    )
    assert (recipe.disk.root, recipe.sdk, recipe.node.hostname) == ("400MiB", True, "a")
    assert (recipe.packages, recipe.title) == (("two",), "a = b")


def test_appending(write: Write) -> None:
    path = write("r.yaml", f"{HEAD}packages: [one]\n")
    assert load_recipe(path, ["packages+=two", "packages+=[three, one]"]).packages == ("one", "two", "three")


def test_appending_to_a_default_keeps_the_default(write: Write) -> None:
    path = write(
        "r.yaml", f"{HEAD}features: [base, containers]\nkubernetes: {{distribution: k3s, addons: [coredns]}}\n"
    )
    recipe = load_recipe(path, ["formats+=tar", "trim.drop+=/opt/*", "board.qemu.disk+=nvme"])
    assert recipe.formats == ("disk", "blockmap", "tar")
    assert recipe.trim.drop[-1] == "/opt/*"
    assert len(recipe.trim.drop) > 1
    assert recipe.board.qemu is not None
    assert recipe.board.qemu.disk == ("virtio-blk-pci,drive=disk", "nvme")
    recipe = load_recipe(
        write("r.yaml", HEAD + "features: [base, containers]\nkubernetes: {distribution: k3s}\n"),
        ["kubernetes.addons+=coredns"],
    )
    assert recipe.kubernetes is not None
    assert recipe.kubernetes.addons == ("coredns", "metrics-server")


def test_board_and_features_can_be_chosen(write: Write) -> None:
    recipe = load_recipe(find_recipe("base-arm64"), ["board=qemu-amd64", "features+=containers", "board.qemu.cpus=4"])
    assert (recipe.board.board, recipe.features) == ("qemu-amd64", ("base", "containers"))
    assert recipe.board.qemu is not None
    assert recipe.board.qemu.cpus == 4


def test_an_option_wins_over_included_files() -> None:
    options = ["features=[base]", "kubernetes=", "node.role=none", "test=[]"]
    recipe = load_recipe(find_recipe("qemu-arm64"), options)
    assert (recipe.features, recipe.kubernetes) == (("base",), None)


def test_sources_are_relative_to_the_current_folder(write: Write, here: Path) -> None:
    write("x.txt", "x")
    recipe = load_recipe(write("r/r.yaml", HEAD), ["files+={path: /etc/x, source: x.txt}"])
    assert recipe.files[0].source == str(here / "x.txt")


def test_a_later_option_wins(write: Write) -> None:
    assert load_recipe(write("r.yaml", HEAD), ["suite=a", "suite=b"]).suite == "b"


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ("sdk", f"there is no '=' in it\n  {FORM}"),
        ("=1", f"there is no key before the '='\n  {FORM}"),
        ("a..b=1", f"a part of the key is empty\n  {FORM}"),
        ("sdk=[1", "not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("skd=1", "unknown key 'skd' in recipe\n  did you mean 'sdk'?"),
        ("disk.rot=1MiB", "unknown key 'rot' in disk\n  did you mean 'root'?"),
        ("image.x=1", "the key leads through a value that is no mapping"),
        ("image+=x", "image is not a list, so += cannot append to it"),
        ("sdk=perhaps", "sdk: must be true or false, got 'perhaps'"),
        ("board=qemu-arm46", "unknown board 'qemu-arm46'\n  did you mean 'qemu-arm64'?"),
        ("features+=contaners", "unknown feature 'contaners'\n  did you mean 'containers'?"),
        ("size_budget.root=1GiB", "size_budget.root: 1GiB is more than the root partition holds, 320MiB\n"
         "  raise disk.root, or lower the budget"),
    ],
)  # fmt: skip
def test_bad_options_are_named_as_their_place(write: Write, option: str, problem: str) -> None:
    assert problems(write("r.yaml", HEAD), option) == [f"--set {option}: {problem}"]


def test_problems_of_options_and_files_come_together(write: Write) -> None:
    found = problems(write("r.yaml", f"{HEAD}engin: x\n"), "sdk", "disk.rot=1")
    assert [each.split(":")[0] for each in found] == ["--set disk.rot=1", "--set sdk", "r.yaml"]
