"""`cumulet pin`: write a release's checksums into its pin, once somebody has seen them."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("pin")
@click.argument("distribution", type=click.Choice(["k3s"]))
@click.argument("version")
@click.option("--recipes", type=click.Path(path_type=Path), help="Folder of recipes; default: Cumulet's own.")
@click.option("--base", help="Address of the releases; default: the pin's.")
@click.option("--yes", is_flag=True, help="Write without asking.")
def pin(distribution: str, version: str, recipes: Path | None, base: str | None, yes: bool) -> None:
    """Show the SHA-256 of a release's files and write them into its pin."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.kubernetes import repin

    plan = repin.make_plan(recipes or find_assets("recipes"), version, base)
    for line in plan.lines:
        click.echo(line)
    if yes or click.confirm(f"Write these into {plan.path}?"):
        repin.write_pin(plan)
        click.echo(f"{plan.path}: written")
