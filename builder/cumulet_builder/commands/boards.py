"""`cumulet boards` and `cumulet board`: what is known about the boards."""

from __future__ import annotations

import json

import click


@click.command("boards")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def boards(as_json: bool) -> None:
    """List the boards: how far each was tried, and what must be supplied before an image can be built."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.recipe.boards import describe_state, load_boards

    found = load_boards(find_assets("recipes"))
    if as_json:
        keys = ("board", "title", "architecture", "soc", "gpu", "support")
        rows = [
            {
                **{key: getattr(board, key) for key in keys},
                "boot": board.boot.method,
                "flash": board.flash.method if board.flash else None,
                "complete": not board.lacking,
                "missing": [each.model_dump(mode="json") for each in board.lacking],
            }
            for board in found
        ]
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(board.board) for board in found)
    states = max(len(describe_state(board)) for board in found)
    for board in found:
        click.echo(f"{board.board:<{width}}  {describe_state(board):<{states}}  {board.title}")


@click.group("board")
def board() -> None:
    """Look at one board."""


@board.command("show")
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def show(name: str, as_json: bool) -> None:
    """Print what is known about the board NAME: a bundled one, or the path of a board file."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.recipe.boards import load_board, make_lines

    found = load_board(name, find_assets("recipes"))
    if as_json:
        click.echo(json.dumps(found.model_dump(mode="json"), indent=1))
        return
    for line in make_lines(found):
        click.echo(line)
