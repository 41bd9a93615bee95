"""`cumulet show`: a recipe with everything merged and filled in."""

from __future__ import annotations

import json

import click


@click.command("show")
@click.argument("recipe")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
@click.option("--origin", is_flag=True, help="Say beside every value which file and line it comes from.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(recipe: str, overrides: tuple[str, ...], origin: bool, as_json: bool) -> None:
    """Print RECIPE, a file or the name of a bundled one, as a build sees it.

    Board, includes and features are merged, defaults filled in, and every
    problem is named with its file and line.
    """
    from cumulet_builder.recipe.load import find_recipe, resolve_recipe
    from cumulet_builder.recipe.origin import make_lines, make_origins

    resolved = resolve_recipe(find_recipe(recipe), overrides)
    if as_json:
        answer = resolved.recipe.model_dump(mode="json")
        if origin:
            answer = {"recipe": answer, "origin": make_origins(resolved)}
        click.echo(json.dumps(answer, indent=1))
        return
    for line in make_lines(resolved, origin):
        click.echo(line)
