"""Templates: every name has a value, text stays text, pages are escaped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import jinja2
import pytest

from cumulet_builder import render


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(render, "FOLDER", tmp_path)
    render._environment.cache_clear()
    yield tmp_path
    render._environment.cache_clear()


def test_values_are_filled_in_and_the_last_newline_stays(templates: Path) -> None:
    (templates / "a.j2").write_text("{% for x in names %}\n  {{ x }}\n{% endfor %}\nend\n")
    assert render.render("a.j2", names=["a<b", "c"]) == "  a<b\n  c\nend\n"


@pytest.mark.parametrize("name", ["a.html", "a.html.j2"])
def test_pages_are_escaped(templates: Path, name: str) -> None:
    (templates / name).write_text("{{ x }}")
    assert render.render(name, x="a<b") == "a&lt;b"


def test_a_name_without_a_value_is_an_error(templates: Path) -> None:
    (templates / "a.j2").write_text("{{ missing }}")
    with pytest.raises(jinja2.UndefinedError, match="'missing' is undefined"):
        render.render("a.j2")


def test_text_can_be_quoted_for_yaml(templates: Path) -> None:
    (templates / "a.j2").write_text("x: {{ x | quoted }}")
    assert render.render("a.j2", x='a"b: c') == 'x: "a\\"b: c"'


def test_a_change_of_a_template_is_a_change_of_its_digest(templates: Path) -> None:
    (templates / "a.j2").write_text("1")
    before = render.template_digest("a.j2")
    (templates / "a.j2").write_text("2")
    assert render.template_digest("a.j2") != before


def test_every_template_of_ours_can_be_parsed() -> None:
    paths = [path for path in render.FOLDER.rglob("*") if path.is_file() and path.suffix in (".j2", ".html")]
    assert paths
    for path in paths:
        render._environment().get_template(str(path.relative_to(render.FOLDER)))
