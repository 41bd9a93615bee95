"""show, schema, new, recipes, and the folders they read from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest
import yaml

from cumulet.core.documents import load_document
from cumulet.core.errors import ToolError
from cumulet_builder.assets import find_assets
from cumulet_builder.cli import main
from cumulet_builder.recipe.load import load_recipe
from cumulet_builder.recipe.origin import write_scalar
from cumulet_builder.recipe.schema import Kind, make_schema

Write = Callable[[str, str], Path]
BOARDS = ", ".join(sorted(path.stem for path in (find_assets("recipes") / "boards").glob("*.yaml")))
Capture = pytest.CaptureFixture[str]
HEAD = "version: 1\nimage: edge\nboard: qemu-arm64\n"
FOLDERS: dict[str, Kind] = {"images": "recipe", "boards": "board", "features": "feature"}


def test_show_is_yaml_of_the_resolved_recipe(write: Write, capsys: Capture) -> None:
    path = write("r.yaml", f'{HEAD}files: [{{path: /etc/motd, content: "a: b\\n# c"}}]\npackages: [htop]\n')
    assert main(["show", "r.yaml", "--set", "disk.root=400MiB"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert shown == load_recipe(path, ["disk.root=400MiB"]).model_dump(mode="json")
    assert shown["files"][0]["content"] == "a: b\n# c"


def test_show_json(write: Write, capsys: Capture) -> None:
    path = write("r.yaml", HEAD)
    assert main(["show", "r.yaml", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == load_recipe(path).model_dump(mode="json")


def test_show_says_where_values_come_from(write: Write, capsys: Capture) -> None:
    write("a.yaml", "version: 1\npackages: [one]\n")
    write("r.yaml", f"{HEAD}include: [a.yaml]\npackages: [two]\n")
    assert main(["show", "r.yaml", "--origin", "--set", "packages+=three"]) == 0
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    assert "image: edge # r.yaml:2" in lines
    assert "- one # a.yaml:2" in lines
    assert "- two # r.yaml:5" in lines
    assert "- three # --set packages+=three" in lines
    assert "engine: debian # default" in lines
    assert "packages:" in lines


def test_origins_as_json(write: Write, capsys: Capture) -> None:
    write("r.yaml", f"{HEAD}packages: [two]\n")
    assert main(["show", "r.yaml", "--origin", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["recipe"]["image"] == "edge"
    assert answer["origin"]["packages[0]"] == "r.yaml:4"
    assert answer["origin"]["disk.root"] == "default"
    assert answer["origin"]["board.kernel.package"].endswith("recipes/boards/qemu-arm64.yaml:9")


def test_show_of_a_bad_recipe(write: Write, capsys: Capture) -> None:
    write("r.yaml", f"{HEAD}engin: x\nsdk: perhaps\n")
    assert main(["show", "r.yaml"]) == 2
    assert capsys.readouterr() == (
        "",
        "error: 2 problems in r.yaml\n"
        "  r.yaml:4:1: unknown key 'engin' in recipe\n"
        "    did you mean 'engine'?\n"
        "  r.yaml:5:6: sdk: must be true or false, got 'perhaps'\n",
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ("0644", '"0644"'),
        ("on", '"on"'),
        ("2024-01-01", '"2024-01-01"'),
        ("2024-13-45", '"2024-13-45"'),
        ("true", '"true"'),
        ("12", '"12"'),
        ("", '""'),
        ("a: b", '"a: b"'),
        ("a #b", '"a #b"'),
        (" a", '" a"'),
        ("[x", '"[x"'),
        ("a\nb", '"a\\nb"'),
        ("größer", "größer"),
        (None, "null"),
        (True, "true"),
        (3, "3"),
        ([], "[]"),
        ({}, "{}"),
    ],
)
def test_scalars_are_quoted_where_they_would_be_read_as_something_else(value: object, text: str) -> None:
    assert write_scalar(value) == text


# Schemas.


def bundled(folder: str) -> list[Path]:
    return sorted((find_assets("recipes") / folder).glob("*.yaml"))


@pytest.mark.parametrize(
    ("folder", "path"),
    [(folder, path) for folder in FOLDERS for path in bundled(folder)],
    ids=lambda value: value.stem if isinstance(value, Path) else value,
)
def test_bundled_files_are_valid_by_their_schema(folder: str, path: Path) -> None:
    data = load_document(path, kind=folder).plain()
    schema = make_schema(FOLDERS[folder])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(data)] == []


@pytest.mark.parametrize(
    ("kind", "data", "message"),
    [
        ("recipe", {"version": 1, "image": "x", "engin": 1}, "'engin' was unexpected"),
        ("recipe", {"version": 1}, "'image' is a required property"),
        ("recipe", {"version": 1, "image": "x", "board": {"board": "y"}}, "is not of type 'string'"),
        ("recipe", {"version": 1, "image": "My Node"}, "does not match"),
        ("recipe", {"version": 2, "image": "x"}, "1 was expected"),
        ("feature", {"version": 1, "title": "t", "board": "x"}, "'board' was unexpected"),
        ("board", {"version": 1, "title": 1}, "1 is not of type 'string'"),
    ],
)
def test_schemas_refuse(kind: Kind, data: object, message: str) -> None:
    errors = [error.message for error in jsonschema.Draft202012Validator(make_schema(kind)).iter_errors(data)]
    assert len(errors) == 1
    assert message in errors[0]


def test_a_schema_has_what_files_may_say() -> None:
    recipe, board = make_schema("recipe"), make_schema("board")
    assert recipe["properties"]["board"]["type"] == "string"
    assert {"include", "features"} <= set(recipe["properties"])
    assert {"include", "defaults"} <= set(board["properties"])
    assert "Qemu" not in recipe["$defs"]


def test_schema_command(capsys: Capture) -> None:
    assert main(["schema", "--kind", "board"]) == 0
    assert json.loads(capsys.readouterr().out) == make_schema("board")


# Starting a recipe.


@pytest.mark.parametrize("board", [path.stem for path in bundled("boards")])
def test_a_new_recipe_is_valid(here: Path, capsys: Capture, board: str) -> None:
    assert main(["new", "my-node", "--board", board, "-o", "sub/folder"]) == 0
    path = Path("sub/folder/my-node.yaml")
    assert capsys.readouterr().out == f"{path}: written; next: cumulet build {path}\n"
    recipe = load_recipe(path)
    assert (recipe.image, recipe.board.board) == ("my-node", board)


def test_every_commented_line_of_a_new_recipe_is_valid_too(here: Path) -> None:
    assert main(["new", "my-node"]) == 0
    path = Path("my-node.yaml")
    text = path.read_text()
    for old, new in (
        ("# kubernetes:", "kubernetes:"),
        ("features: [base]", "features: [base, containers]"),
        ("  # - {path:", "  - {path:"),
        ("authorized_keys: []\n  # -", "authorized_keys:\n  -"),
        ("AAAA...", "AAAAC3Nz"),
    ):
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    Path("hello.sh").write_text("#!/bin/sh\n")
    recipe = load_recipe(path)
    assert recipe.kubernetes is not None
    assert [file.mode for file in recipe.files] == ["0644", "0755"]
    assert recipe.ssh.authorized_keys == ("ssh-ed25519 AAAAC3Nz me@laptop",)


def test_new_overwrites_nothing(write: Write, capsys: Capture) -> None:
    path = write("my-node.yaml", "mine")
    assert main(["new", "my-node"]) == 2
    assert capsys.readouterr().err == (
        "error: my-node.yaml: is there already\nhint: choose another name or folder, or remove it first\n"
    )
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (
            ["My_Node"],
            "error: 'My_Node' is not a name for an image\n"
            "hint: use lower-case letters, digits, '.', '+' and '-': my-node\n",
        ),
        (["x", "--board", "qemu-arm46"], "error: unknown board 'qemu-arm46'\nhint: did you mean 'qemu-arm64'?\n"),
        (["x", "--board", "zzz"], f"error: unknown board 'zzz'\nhint: known boards: {BOARDS}\n"),
        (["x", "-o", "file"], "error: file: File exists\n"),
    ],
)
def test_new_refuses(write: Write, here: Path, capsys: Capture, words: list[str], text: str) -> None:
    write("file", "")
    assert main(["new", *words]) in (2, 3)
    assert capsys.readouterr().err == text
    assert sorted(path.name for path in here.iterdir()) == ["file"]


# What is bundled.


def test_recipes_lists_everything(capsys: Capture) -> None:
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["images:", "boards:", "features:"]
    for folder in FOLDERS:
        for path in bundled(folder):
            title = load_document(path, kind=folder).plain()["title"]
            assert any(line.split()[0] == path.stem and title in line for line in lines)


def test_recipes_as_json(capsys: Capture) -> None:
    assert main(["recipes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {folder: sorted(item["name"] for item in items) for folder, items in answer.items()} == {
        folder: sorted(path.stem for path in bundled(folder)) for folder in FOLDERS
    }
    board = next(item for item in answer["boards"] if item["name"] == "qemu-arm64")
    assert (board["architecture"], board["support"]) == ("arm64", "tested")


def test_assets_come_from_the_checkout_else_from_the_wheel(tmp_path: Path) -> None:
    checkout, installed = tmp_path / "checkout", tmp_path / "_assets"
    (checkout / "recipes").mkdir(parents=True)
    (installed / "recipes").mkdir(parents=True)
    assert find_assets("recipes", checkout, installed) == installed / "recipes"
    (checkout / "pyproject.toml").write_text("")
    assert find_assets("recipes", checkout, installed) == checkout / "recipes"
    with pytest.raises(ToolError) as caught:
        find_assets("layers", checkout, installed)
    assert caught.value.message == f"{installed / 'layers'}: no such folder"
    assert caught.value.hint == "install cumulet again: pip install --force-reinstall cumulet-board"
