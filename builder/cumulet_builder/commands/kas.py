"""`cumulet kas`: the kas document of a recipe, to read or to build with kas itself."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("kas")
@click.argument("recipe")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe.")
@click.option("--lock", type=click.Path(path_type=Path), help="The lock to go by.")
@click.option("--to", "folder", type=click.Path(path_type=Path), help="Write it there, with all that kas needs.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(recipe: str, overrides: tuple[str, ...], lock: Path | None, folder: Path | None, as_json: bool) -> None:
    """Print the kas document of RECIPE, a file or the name of a bundled one.

    With --to it is written as FOLDER/kas.yaml, with the archives that it names beside
    it: `kas build kas.yaml` in that folder builds the image.
    """
    from cumulet_builder.engines.yocto.document import make_document, make_text
    from cumulet_builder.engines.yocto.stages import prepare_recipe, write_documents
    from cumulet_builder.recipe.load import find_recipe

    prepared = prepare_recipe(find_recipe(recipe), overrides, lock)
    document = make_document(prepared.recipe, prepared.setting)
    if folder is not None:
        write_documents(prepared, folder.absolute())
    if as_json:
        click.echo(json.dumps(document, indent=1))
    elif folder is not None:
        click.echo(f"{folder}/kas.yaml: written; cd {folder} && kas build kas.yaml")
    else:
        click.echo(make_text(document), nl=False)
