"""`cumulet container`: images of the AI runtimes for containers."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cumulet_builder.cache import default_root
from cumulet_builder.commands.progress import Lines
from cumulet_builder.settings import Settings


@click.group("container")
def container() -> None:
    """Container images of the AI runtimes, from Debian packages and Python wheels."""


@container.command("list")
def list_containers() -> None:
    """The bundled ones."""
    from cumulet_builder.assets import find_assets
    from cumulet_builder.containers.model import load_container

    for path in sorted((find_assets("recipes") / "containers").glob("*.yaml")):
        click.echo(f"{path.stem:<20} {load_container(path).title}")


@container.command()
@click.argument("name")
@click.option("--arch", type=click.Choice(["arm64", "amd64"]), default="arm64", help="[default: arm64]")
@click.option("--out", type=click.Path(path_type=Path), default=Path("out"), help="Published images (./out).")
@click.option("--cache", type=click.Path(path_type=Path), help="The cache (~/.cache/cumulet).")
@click.option("--lock", type=click.Path(path_type=Path), help="The lock to go by.")
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def build(*, name: str, arch: str, out: Path, cache: Path | None, lock: Path | None, as_json: bool) -> None:
    """Build the container NAME: an OCI archive for `ctr images import` and `cumulet package`."""
    from cumulet_builder.containers.build import build as run_build
    from cumulet_builder.containers.model import find_container

    settings = Settings(out=out, cache=cache or default_root(), lock=lock)
    path = Path(name) if name.endswith(".yaml") else find_container(name)
    with Lines(quiet=as_json) as lines:
        built = run_build(path, arch, settings, lines)
    if as_json:
        click.echo(json.dumps({"name": built.name, "digest": built.digest, "folder": str(built.folder)}))
    else:
        click.echo(f"{built.name}@{built.digest}: {built.folder}")
