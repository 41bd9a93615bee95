"""`cumulet pin`: write a release's checksums into its pin, once somebody has seen them."""

from __future__ import annotations

import json
from pathlib import Path

import click


@click.command("pin")
@click.argument("distribution", type=click.Choice(["k3s"]))
@click.argument("version")
@click.option("--recipes", type=click.Path(path_type=Path), help="Folder of recipes; default: Cumulet's own.")
@click.option("--base", metavar="URL", help="Read the checksums from here; default: the pin's address.")
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON; written only with --yes.")
def pin(distribution: str, version: str, *, recipes: Path | None, base: str | None, yes: bool, as_json: bool) -> None:
    """Show the SHA-256 of the files of a release and write them into its pin."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.kubernetes import repin

    plan = repin.make_plan(recipes or find_assets("recipes"), version, base)
    if not as_json:
        for name, digest in plan.sums.items():
            click.echo(f"{digest}  {name}")
    write = plan.changed and (yes or (not as_json and click.confirm(f"Write these into {plan.path}?")))
    if write:
        repin.write_pin(plan)
    if as_json:
        click.echo(json.dumps({"pin": str(plan.path), "files": dict(plan.sums), "written": write}, indent=1))
    elif write or not plan.changed:
        click.echo(f"{plan.path}: {'written' if write else 'up to date'}")
