"""Templates of this package as text: jinja2, undefined names are errors."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent / "templates"


def render(template: str, **values: object) -> str:
    """The text of `templates/<template>`. Raises `jinja2.UndefinedError` for a name without a value."""
    return _environment().get_template(template).render(**values)


def make_yaml(*documents: object) -> str:
    """YAML of plain values, keys in the order given, one document after the other."""
    import yaml  # noqa: PLC0415 - slow to import

    return "---\n".join(yaml.safe_dump(each, sort_keys=False, width=200) for each in documents)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2  # noqa: PLC0415 - slow to import

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - units and YAML, not HTML
    )
