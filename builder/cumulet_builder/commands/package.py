"""`cumulet package`: publish what sites fetch: base packages, images, models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypedDict, Unpack

import click

KINDS = ("files", "image", "model")
ARCHITECTURES = ("arm64", "amd64")

key_option = click.option(
    "--key", type=click.Path(path_type=Path), required=True, help="The publisher's private key, of `new-key`."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")


class LabelChoices(TypedDict):
    """What `cumulet package add` is told about a file."""

    name: str
    version: str
    kind: str
    architecture: str | None
    late: bool | None


@click.group("package")
def package() -> None:
    """Packages for sites: published once, signed, fetched once by every site.

    \b
    cumulet package new-key publisher.pem
    cumulet package add store/ yolo.onnx --name yolo --version 8.1 --kind model --key publisher.pem
    cumulet package push store/ oci://registry.example/edge/packages --key publisher.pem.pub
    """


@package.command("new-key")
@click.argument("file", type=click.Path(path_type=Path))
def new_key(file: Path) -> None:
    """Make a key: FILE signs, and FILE.pub is what site.yaml names as packages.key."""
    from cumulet.packages import make_key

    public = make_key(file)
    click.echo(f"{file}: keep it secret; {public}: for every site.yaml")


@package.command()
@click.argument("store", type=click.Path(path_type=Path, file_okay=False))
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="What sites call it.")
@click.option("--version", required=True, help="One version is one content for ever.")
@click.option("--kind", type=click.Choice(KINDS), required=True, help="tar archive, archive of images, or one file.")
@click.option("--architecture", type=click.Choice(ARCHITECTURES), help="Devices that it is for. [default: all]")
@click.option("--late/--early", default=None, help="After or before Kubernetes. [default: models late]")
@key_option
@json_option
def add(store: Path, file: Path, key: Path, as_json: bool, **choices: Unpack[LabelChoices]) -> None:
    """Put FILE into the folder STORE and sign its index anew. Any web server can show the folder."""
    from cumulet.packages import KINDS as KNOWN
    from cumulet.packages import Label, add_package

    kind = next(each for each in KNOWN if each == choices["kind"])
    architecture = choices["architecture"] or ""
    label = Label(choices["name"], choices["version"], kind, architecture, choices["late"])
    made = add_package(store, file, label, key)
    if as_json:
        click.echo(json.dumps(made.model_dump(exclude={"chunks"}), indent=1))
    else:
        click.echo(f"{made.title}: {made.kind}, {made.size} bytes, sha256 {made.sha256}")


@package.command()
@click.argument("store", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("target", metavar="oci://REGISTRY/REPOSITORY[:TAG]")
@click.option("--key", type=click.Path(path_type=Path), required=True, help="The public key; nothing else is pushed.")
@click.option("--login", type=click.Path(path_type=Path, exists=True), help="File with user:password.")
def push(store: Path, target: str, key: Path, login: Path | None) -> None:
    """Bring the packages of STORE to an OCI registry; what is there is not sent again."""
    from cumulet.packages import push_store

    words = login.read_text().strip() if login else ""
    sent = push_store(store, target, key, words, lambda title: click.echo(f"  {title}", err=True))
    click.echo(f"{target}: {sent} blobs sent" if sent else f"{target}: up to date")
