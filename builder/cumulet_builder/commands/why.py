"""`cumulet why`: who asked for a file, a package or a kernel module of an image."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("why")
@click.argument("recipe")
@click.argument("thing", metavar="FILE|PACKAGE|MODULE")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
@click.option("--cache", type=click.Path(path_type=Path), help="The cache that it was built with (~/.cache/cumulet).")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(recipe: str, thing: str, overrides: tuple[str, ...], cache: Path | None, as_json: bool) -> None:
    """Tell why something is in the last build of RECIPE: the chain up to whoever asked for it.

    A file is named by its whole path in the image.
    """
    from cumulet_builder.cache import default_root
    from cumulet_builder.recipe.load import find_recipe, resolve_recipe
    from cumulet_builder.why import explain, load_image

    resolved = resolve_recipe(find_recipe(recipe), overrides)
    lines = explain(load_image(resolved, cache or default_root()), thing)
    if as_json:
        click.echo(json.dumps({"image": resolved.recipe.image, "thing": thing, "chain": [x.strip() for x in lines]}))
        return
    click.echo("\n".join(lines))
