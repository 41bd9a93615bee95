"""cumulet build, plan, lock, vendor: the commands around one build."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from cumulet_builder.cache import default_root
from cumulet_builder.commands.progress import Lines
from cumulet_builder.settings import Settings


def recipe_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that every command around a build has."""
    options = [
        click.argument("recipe"),
        click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the recipe."),
        click.option("--engine", help="debian or yocto; short for --set engine=NAME."),
        click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Published images (./out)."),
        click.option("--cache", type=click.Path(path_type=Path), help="The cache (~/.cache/cumulet)."),
        click.option("--mirror", metavar="URL", help="Debian mirror. Default: the one that this computer's apt uses."),
        click.option("--lock", type=click.Path(path_type=Path), help="The lock to go by."),
        click.option("--update", is_flag=True, help="Make a new lock with the newest packages."),
        click.option("--vendor", type=click.Path(path_type=Path), help="A store made by `cumulet vendor`."),
        click.option("--json", "as_json", is_flag=True, help="Answer in JSON."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def make_settings(values: dict[str, Any]) -> Settings:
    """The settings of a command's options."""
    return Settings(
        out=values["out"],
        cache=values["cache"] or default_root(),
        overrides=(*values["overrides"], *([f"engine={values['engine']}"] if values["engine"] else ())),
        mirror=values["mirror"],
        lock=values["lock"],
        update=values["update"],
        vendor=values["vendor"],
    )


@click.command()
@recipe_options
def build(recipe: str, as_json: bool, **values: Any) -> None:
    """Build the image of RECIPE, a file or the name of a bundled one."""
    from cumulet_builder.build import build as run_build
    from cumulet_builder.recipe.load import find_recipe

    with Lines(quiet=as_json) as lines:
        image = run_build(find_recipe(recipe), make_settings(values), lines)
    if as_json:
        click.echo(json.dumps({"image": image.recipe.image, "folder": str(image.folder), "changed": image.changed}))
    else:
        click.echo(f"{image.recipe.image}: {'built' if image.changed else 'up to date'}: {image.folder}")


@click.command()
@recipe_options
def plan(recipe: str, as_json: bool, **values: Any) -> None:
    """Show which stages a build of RECIPE would run, and why."""
    from cumulet_builder.build import plan as make_plan
    from cumulet_builder.recipe.load import find_recipe

    planned = make_plan(find_recipe(recipe), make_settings(values))
    if as_json:
        steps = [
            {"stage": step.stage.name, "key": step.key, "run": step.run, "reason": step.reason}
            for step in planned.steps
        ]
        click.echo(json.dumps({"image": planned.recipe.image, "lock": planned.lock_origin, "stages": steps}, indent=1))
        return
    click.echo(f"{planned.recipe.image}: lock: {planned.lock_origin}")
    for step in planned.steps:
        click.echo(f"  {'run ' if step.run else 'have'}  {step.stage.name:<12} {step.reason}")


@click.command()
@recipe_options
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Default: beside the recipe.")
def lock(recipe: str, as_json: bool, output: Path | None, **values: Any) -> None:
    """Write the lock of RECIPE beside it, so that every later build is identical."""
    from cumulet.core.files import write_text
    from cumulet_builder.build import make_lock
    from cumulet_builder.engines.debian.settle import lock_beside
    from cumulet_builder.engines.locks import count_parts, make_lock_text
    from cumulet_builder.recipe.load import find_recipe

    path = find_recipe(recipe)
    made = make_lock(path, make_settings(values))
    target = output or lock_beside(path)
    write_text(target, make_lock_text(made))
    counts = count_parts(made)
    if as_json:
        click.echo(json.dumps({"lock": str(target), **counts}))
    else:
        click.echo(f"{target}: {', '.join(f'{number} {name}' for name, number in counts.items())}")


@click.command()
@recipe_options
@click.option("--to", "store", type=click.Path(path_type=Path), required=True, help="The store's folder.")
def vendor(recipe: str, as_json: bool, store: Path, **values: Any) -> None:
    """Keep everything that the lock of RECIPE names in a local store."""
    from cumulet_builder.build import vendor_lock
    from cumulet_builder.recipe.load import find_recipe

    with Lines(quiet=as_json) as lines:
        copied, total = vendor_lock(find_recipe(recipe), make_settings(values), store, lines)
    if as_json:
        click.echo(json.dumps({"store": str(store), "copied": copied, "files": total}))
    else:
        click.echo(f"{store}: {total} files, {copied} of them new; build with --vendor {store}")
