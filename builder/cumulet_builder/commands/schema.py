"""`cumulet schema`: JSON Schemas for editors."""

from __future__ import annotations

import json
from typing import Literal

import click


@click.command("schema")
@click.option(
    "--kind", type=click.Choice(["recipe", "board", "feature"]), default="recipe", help="Of which files. [recipe]"
)
def command(kind: Literal["recipe", "board", "feature"]) -> None:
    """Print the JSON Schema of recipe, board or feature files.

    Save it and name it in an editor's settings, or in the first line of a file:
    # yaml-language-server: $schema=recipe.schema.json
    """
    from cumulet_builder.recipe.schema import make_schema

    click.echo(json.dumps(make_schema(kind), indent=1))
