"""The one place that turns templates into text: jinja2, undefined names are errors."""

from __future__ import annotations

import functools
import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """The text of `templates/<template>` with `values` filled in.

    Text ends with one newline. Names ending in `.html.j2` or `.html` are escaped.
    Raises `jinja2.UndefinedError` for a name without a value: a bug of the caller.
    """
    return _environment().get_template(template).render(**values)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415  (slow to import, and `cumulet --help` needs no template)

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        autoescape=jinja2.select_autoescape(("html", "html.j2"), default_for_string=False, default=False),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["quoted"] = json.dumps
    return environment


def template_digest(template: str) -> str:
    """The SHA-256 of a template's source: what a stage that renders it depends on."""
    return hashlib.sha256((FOLDER / template).read_bytes()).hexdigest()
