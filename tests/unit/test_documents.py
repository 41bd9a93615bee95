"""Documents: what text becomes, where it was written, and the words for what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from cumulet import __version__
from cumulet.core.documents import (
    Place,
    check,
    describe,
    load_document,
    make_error,
    parse_document,
    suggest,
    validate,
)
from cumulet.core.errors import Problem, UsageError
from cumulet.core.wording import fields_at, write_key


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    port: int = Field(1, ge=1, le=9)
    weight: float = 1.0


class Site(BaseModel):
    model_config = ConfigDict(extra="forbid")
    version: Literal[1] = 1
    name: str = Field("x", max_length=5, pattern="^[a-z]+$")
    role: Literal["control", "master", "worker"] = "worker"
    active: bool = True
    nodes: tuple[Part, ...] = ()
    labels: dict[Literal["zone", "rack"], str] = {}
    either: Part | str | None = None
    best: Part | None = None


def problems(text: str) -> list[str]:
    """Every problem of a site document, as it is printed."""
    return [str(each) for each in check(Site, parse_document(text, "s.yaml"), "site")[1]]


def refusal(text: str) -> UsageError:
    with pytest.raises(UsageError) as caught:
        parse_document(text, "s.yaml")
    return caught.value


def test_scalars_stay_what_was_written() -> None:
    text = (
        "a: 0644\nb: on\nc: 2024-01-01\nd: 1:30\ne: 12\nf: -0.5\ng: true\nh: null\ni:\nj: '1'\nk: 12e4\nl: .5\nm: 1_000"
    )
    assert parse_document(text, "s.yaml").plain() == {
        "a": "0644", "b": "on", "c": "2024-01-01", "d": "1:30", "e": 12, "f": -0.5, "g": True,
        "h": None, "i": None, "j": "1", "k": "12e4", "l": ".5", "m": "1_000",
    }  # fmt: skip


def test_keys_are_text() -> None:
    assert parse_document("1: a\non: b\nnull: c", "s.yaml").plain() == {"1": "a", "on": "b", "null": "c"}


def test_places_of_keys_and_values() -> None:
    document = parse_document("a:\n  - x\n  - {b: y}\n", "s.yaml")
    value = document.at(("a", 1, "b"))
    assert value is not None
    assert (value.content, value.key, value.place) == ("y", Place("s.yaml", 3, 6), Place("s.yaml", 3, 9))
    assert document.at(("a", 0)) is not None
    assert document.at(("a", 2)) is None
    assert document.at(("a", "b")) is None
    assert document.at(("no", "where")) is None


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "s.yaml:1:1: is empty", ""),
        ("# only words\n", "s.yaml:1:1: is empty", ""),
        ("\ta: 1", "s.yaml:1:1: not valid YAML: a tab where spaces belong", "indent with spaces"),
        (
            "a: b: c",
            "s.yaml:1:5: not valid YAML: mapping values are not allowed here",
            "put text that holds ': ' in quotes, and check the indentation",
        ),
        ("a: [1", "s.yaml:1:6: not valid YAML: expected ',' or ']', but got '<stream end>'", ""),
        (
            "a: 1\n---\nb: 1",
            "s.yaml:2:1: holds more than one document",
            "write one document per file, without `---` between",
        ),
        ("a: &x [1]\nb: *x", "s.yaml:2:4: aliases (*x) are not supported", "write the value out"),
        ("a: !secret x", "s.yaml:1:4: tags (!secret) are not supported", "write the value out"),
        ("a: !!int x", "s.yaml:1:4: tags (tag:yaml.org,2002:int) are not supported", "write the value out"),
        ("a: !x [1]", "s.yaml:1:4: tags (!x) are not supported", "write the value out"),
        ("a: !x {b: 1}", "s.yaml:1:4: tags (!x) are not supported", "write the value out"),
        ("a: 1\nb: 2\na: 3", "s.yaml:3:1: duplicate key 'a', first on line 1", ""),
        ("? [a]\n: 1", "s.yaml:1:3: a key must be plain text", ""),
        ("a: x\nb: \x01", "s.yaml:2:4: the character '\\x01' is not allowed in YAML", ""),
        ("[" * 5000, "s.yaml:1:1: is nested too deeply", ""),
    ],
)  # fmt: skip
def test_bad_yaml(text: str, message: str, hint: str) -> None:
    error = refusal(text)
    assert (error.message, error.hint) == (message, hint)
    assert len(error.problems) == 1


def test_every_duplicate_is_named() -> None:
    error = refusal("a: 1\na: 2\nb: {c: 1, c: 2}")
    assert error.message == "2 problems in s.yaml"
    assert [str(each) for each in error.problems] == [
        "s.yaml:2:1: duplicate key 'a', first on line 1",
        "s.yaml:3:11: duplicate key 'c', first on line 3",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("nmae: x", "s.yaml:1:1: unknown key 'nmae' in site\n  did you mean 'name'?"),
        ("nodes: [{prot: 1}]", "s.yaml:1:10: unknown key 'prot' in nodes[0]\n  did you mean 'port'?"),
        ("nodes: [{zzz: 1}]", "s.yaml:1:10: unknown key 'zzz' in nodes[0]\n  known keys: port, weight"),
        ("best: {prt: 1}", "s.yaml:1:8: unknown key 'prt' in best\n  did you mean 'port'?"),
        (
            "role: mastr",
            "s.yaml:1:7: role: must be one of control, master, worker, got 'mastr'\n  did you mean 'master'?",
        ),
        ("role: []", "s.yaml:1:7: role: must be one of control, master, worker, got a list"),
        ("version: 0", "s.yaml:1:10: version: must be 1, got 0"),
        ("name: 12", "s.yaml:1:7: name: must be text, got 12\n  put it in quotes"),
        ("name:", "s.yaml:1:6: name: must be text, got nothing\n  leave the key out, or give it a value"),
        ("name: {a: 1}", "s.yaml:1:7: name: must be text, got a mapping"),
        ("name: abcdef", "s.yaml:1:7: name: must be at most 5 letters long, got 'abcdef'"),
        ("name: A", "s.yaml:1:7: name: must match ^[a-z]+$, got 'A'"),
        ("active: perhaps", "s.yaml:1:9: active: must be true or false, got 'perhaps'"),
        ("nodes: 3", "s.yaml:1:8: nodes: must be a list, got 3\n  write it in brackets: [3]"),
        ("nodes: [3]", "s.yaml:1:9: nodes[0]: must be a mapping, got 3"),
        ("nodes: [{port: x}]", "s.yaml:1:16: nodes[0].port: must be a whole number, got 'x'"),
        ("nodes: [{port: 1.5}]", "s.yaml:1:16: nodes[0].port: must be a whole number, got 1.5"),
        ("nodes: [{port: 0}]", "s.yaml:1:16: nodes[0].port: must be at least 1, got 0"),
        ("nodes: [{port: 10}]", "s.yaml:1:16: nodes[0].port: must be at most 9, got 10"),
        ("nodes: [{weight: x}]", "s.yaml:1:18: nodes[0].weight: must be a number, got 'x'"),
        ("labels: 1", "s.yaml:1:9: labels: must be a mapping, got 1"),
        ("labels: {zoen: a}", "s.yaml:1:10: labels: must be one of zone, rack, got 'zoen'\n  did you mean 'zone'?"),
        ("either: {prot: 1}", "s.yaml:1:10: unknown key 'prot' in either\n  did you mean 'port'?"),
    ],
)
def test_wording(text: str, problem: str) -> None:
    assert problem in problems(text)


def test_unknown_words_of_yaml_one_are_booleans_where_one_is_asked_for() -> None:
    assert validate(Site, parse_document("active: off", "s.yaml"), "site").active is False


def test_a_missing_key_is_at_the_mapping_that_lacks_it() -> None:
    class Needs(BaseModel):
        inner: dict[str, Part]
        other: list[Site]
        name: str

    document = parse_document("inner: {a: {}}\nother: []\n", "s.yaml")
    assert [str(each) for each in check(Needs, document, "thing")[1]] == ["s.yaml:1:1: missing key 'name' in thing"]


def test_own_checks_speak_for_themselves() -> None:
    from cumulet_builder.recipe.model import Disk

    document = parse_document("root: 12 parsecs", "s.yaml")
    assert [each.message for each in check(Disk, document, "disk")[1]] == [
        "root: not a size: '12 parsecs'; write it like 400MiB"
    ]


def test_all_problems_at_once_in_the_order_of_their_places() -> None:
    with pytest.raises(UsageError) as caught:
        validate(Site, parse_document("nodes: [{port: 0}, {prot: 1}]\nnmae: x\nactive: 7\n", "s.yaml"), "site")
    assert caught.value.message == "4 problems in s.yaml"
    assert [(each.line, each.column) for each in caught.value.problems] == [(1, 16), (1, 21), (2, 1), (3, 9)]
    assert caught.value.exit_code == 2


def test_one_problem_is_the_message_itself() -> None:
    error = make_error([Problem("s.yaml", 2, 1, "unknown key 'a'", "did you mean 'b'?")])
    assert (error.message, error.hint) == ("s.yaml:2:1: unknown key 'a'", "did you mean 'b'?")


def test_problems_of_many_files_are_counted() -> None:
    error = make_error([Problem("b", 1, 1, "x"), Problem("a", 9, 1, "y"), Problem("a", 9, 1, "y")])
    assert error.message == "2 problems"
    assert [each.file for each in error.problems] == ["a", "b"]


def test_load_document(write: Callable[[str, str], Path]) -> None:
    path = write("s.yaml", "version: 1\nname: x\n")
    document = load_document(path, kind="site", name="the site")
    assert document.plain() == {"version": 1, "name": "x"}
    assert document.place.file == "the site"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("name: x", "s.yaml:1:1: missing key 'version' in site", "begin with: version: 1"),
        ("version: one", "s.yaml:1:10: version: must be a number from 1 to 1, got 'one'", ""),
        ("version: true", "s.yaml:1:10: version: must be a number from 1 to 1, got true", ""),
        ("version: 0", "s.yaml:1:10: version: must be a number from 1 to 1, got 0", ""),
        (
            "version: 2\nunheard_of: 1",
            f"s.yaml:1:10: site version 2 needs a newer cumulet; this one, {__version__}, knows up to 1",
            "pip install --upgrade cumulet-board",
        ),
        ("- a", "s.yaml:1:1: a site must be a mapping, got a list", ""),
        ("words", "s.yaml:1:1: a site must be a mapping, got 'words'", ""),
    ],
)
def test_bad_documents(write: Callable[[str, str], Path], text: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_document(write("s.yaml", text), kind="site", name="s.yaml")
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_files_that_cannot_be_read(here: Path) -> None:
    (here / "binary").write_bytes(b"\xff\xfe\x00")
    for name, message in {
        "none.yaml": "none.yaml: no such file",
        "binary": "binary: not a text file in UTF-8",
        ".": ".: cannot be read: Is a directory",
    }.items():
        with pytest.raises(UsageError) as caught:
            load_document(Path(name), kind="image")
        assert caught.value.message == message
        assert len(caught.value.problems) == 1


def test_suggest() -> None:
    assert suggest("buidl", ["build", "boot"]) == "did you mean 'build'?"
    assert suggest("zzz", ["build", "boot"]) == ""


def test_describe() -> None:
    assert [describe(each) for each in ({}, [], None, True, False, 1, "a")] == [
        "a mapping", "a list", "nothing", "true", "false", "1", "'a'",
    ]  # fmt: skip


def test_keys_are_written_as_they_are_read_aloud() -> None:
    assert write_key(("files", 0, "mode")) == "files[0].mode"
    assert write_key((0,)) == "[0]"
    assert write_key(()) == ""


def test_known_keys_are_found_through_lists_mappings_and_choices() -> None:
    assert fields_at(Site, ("nodes", 0)) == ["port", "weight"]
    assert fields_at(Site, ("either",)) == ["port", "weight"]
    assert fields_at(dict[str, Part], ("a",)) == ["port", "weight"]
    assert fields_at(Site, ("name", "x")) == []
    assert fields_at(Site, ("unknown", "x")) == []
