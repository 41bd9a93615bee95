"""`cumulet parity`: which engine builds which feature, and why not."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command("parity")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def command(as_json: bool) -> None:
    """Print which engine builds which feature with which Kubernetes, as a table in Markdown."""
    from cumulet_builder.engines.yocto.stages import find_folders
    from cumulet_builder.parity import load_parity, make_table

    cells = load_parity(find_folders())
    if as_json:
        click.echo(json.dumps([{**asdict(cell), "builds": cell.builds} for cell in cells], indent=1))
    else:
        click.echo(make_table(cells), nl=False)
