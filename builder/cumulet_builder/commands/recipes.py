"""`cumulet recipes`: what comes with cumulet to build from."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("recipes")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(as_json: bool) -> None:
    """List the bundled images, boards and features."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.recipe.catalogue import load_catalogue

    catalogue = load_catalogue(find_assets("recipes"))
    if as_json:
        answer = {
            folder: [{name: word for name, word in asdict(item).items() if word} for item in items]
            for folder, items in catalogue.items()
        }
        click.echo(json.dumps(answer, indent=1))
        return
    width = max((len(item.name) for items in catalogue.values() for item in items), default=0)
    for folder, items in catalogue.items():
        click.echo(f"{folder}:")
        for item in items:
            untested = " (untested)" if item.support == "untested" else ""
            click.echo(f"  {item.name:<{width}}  {item.title}{untested}")
