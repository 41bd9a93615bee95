"""`cumulet new`: a commented recipe to start from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("new")
@click.argument("name")
@click.option("--board", default="qemu-arm64", show_default=True, help="Board of the image; see cumulet recipes.")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path),
    default=Path(),
    metavar="DIR",
    help="Folder to write it to. [default: this one]",
)
def command(name: str, board: str, folder: Path) -> None:
    """Write NAME.yaml, a commented recipe for an image NAME that builds as it is."""
    from cumulet_builder.recipe.starter import write_starter

    path = write_starter(name, board, folder)
    click.echo(f"{path}: written; next: cumulet build {path}")
