"""`cumulet model`: models built, signed, brought to registries and back, and switched at tasks."""

from __future__ import annotations

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cumulet.core.options import json_option, kubeconfig_option, namespace_option, site_option

if TYPE_CHECKING:
    from cumulet.models import Held, Rolled, Switch

path_type = click.Path(path_type=Path)
private_option = click.option("--key", type=path_type, required=True, help="The publisher's private key.")
public_option = click.option("--key", type=path_type, required=True, help="The publisher's public key.")
login_option = click.option("--login", type=click.Path(path_type=Path, exists=True), help="File with user:password.")
seconds_option = click.option(
    "--seconds", type=click.IntRange(1), default=300, help="Most for one container to be ready. [default: 300]"
)


@click.group("model")
def model() -> None:
    """Models: signed images that are carried to a site once, and switched safely.

    \b
    cumulet package new-key publisher.pem
    cumulet model build yolo/ yolo.oci --name yolo --version 8.1 --key publisher.pem
    cumulet model push yolo.oci oci://registry.example/models/yolo --key publisher.pem.pub
    cumulet model publish yolo/ store/ --name yolo --version 8.1 --key publisher.pem
    cumulet site up                                        spreads it inside the site
    cumulet model roll detect.yaml store/models/yolo-8.1.release.json --key publisher.pem.pub --when quiet

    `build`, `push` and `pull` are for registries; what is pulled is published like any folder or archive.
    """


@model.command()
@click.argument("folder", type=path_type)
@click.argument("archive", type=path_type)
@click.option("--name", required=True, help="What tasks call it.")
@click.option("--version", "revision", required=True, help="One version is one content for ever.")
@private_option
@json_option
def build(folder: Path, archive: Path, key: Path, *, name: str, revision: str, as_json: bool) -> None:
    """Make the files of FOLDER an image in the OCI archive ARCHIVE, signed: the same files, the same bytes."""
    from cumulet.models import build_model

    release = build_model(folder, archive, name, revision, key)
    if as_json:
        click.echo(json.dumps({"reference": release.reference, "size": release.size}, indent=1))
    else:
        click.echo(f"{release.title}: {release.size} bytes; model: {release.reference}")


@model.command()
@click.argument("folder", type=path_type)
@click.argument("store", type=path_type)
@click.option("--name", required=True, help="What tasks call it.")
@click.option("--version", "revision", required=True, help="One version is one content for ever.")
@click.option("--way", type=click.Choice(["auto", "image", "store"]), default="auto", help="[default: auto, by --edge]")
@click.option("--edge", "edge_path", type=path_type, help="Profile of the site, for the free space on its disks.")
@private_option
def publish(folder: Path, store: Path, key: Path, **choices: Any) -> None:
    """Put the model in FOLDER into STORE, a store of packages: as an image, or if it is big, as files.

    An image takes its size twice on every disk. With --edge the way is chosen by the smallest free space there.
    """
    from cumulet.models import Way, choose_way, find_size, publish_model
    from cumulet.packages import Label
    from cumulet.tasks import find_free_space, load_edge

    way: Way = "store" if choices["way"] == "store" else "image"
    if choices["way"] == "auto" and choices["edge_path"] is not None:
        chosen = choose_way(find_size(folder), find_free_space(load_edge(choices["edge_path"])))
        click.echo(f"  {chosen.reason}", err=True)
        way = chosen.way
    label = Label(choices["name"], choices["revision"], "files")
    done = publish_model(folder, store, label, key, way)
    click.echo(f"{done.release.title}: {done.release.size} bytes, {done.path}")
    click.echo(f"in the task's profile: model: {done.release.reference}" + (", mount: store" if way == "store" else ""))


@model.command()
@click.argument("archive", type=path_type)
@public_option
def verify(archive: Path, key: Path) -> None:
    """Check that every byte of ARCHIVE, or every file of a folder with a model, is what was signed."""
    from cumulet.models import check_archive, check_files
    from cumulet.packages import load_public

    if archive.is_dir():
        card = check_files(archive, load_public(key))
        click.echo(f"{card.model} {card.revision}: {len(card.files)} files, as signed")
    else:
        release = check_archive(archive, key)
        click.echo(f"{release.title}: {len(release.blobs)} blobs, as signed; model: {release.reference}")


@model.command()
@click.argument("archive", type=path_type)
@click.argument("target", metavar="oci://REGISTRY/REPOSITORY")
@public_option
@login_option
def push(archive: Path, target: str, key: Path, login: Path | None) -> None:
    """Bring ARCHIVE to an OCI registry; what is there is not sent again."""
    from cumulet.models import push_model

    release = push_model(archive, target, key, read_login(login), lambda text: click.echo(f"  {text}", err=True))
    click.echo(f"{target}@{release.digest}")


@model.command()
@click.argument("source", metavar="oci://REGISTRY/REPOSITORY@DIGEST")
@click.argument("archive", type=path_type)
@public_option
@login_option
def pull(source: str, archive: Path, key: Path, login: Path | None) -> None:
    """Fetch a model into ARCHIVE, every chunk checked as it comes. Cut off, the same command goes on where it was."""
    from cumulet.models import pull_model

    release = pull_model(source, archive, key, read_login(login), lambda text: click.echo(f"  {text}", err=True))
    click.echo(f"{release.title}: {release.size} bytes; model: {release.reference}")


@model.command()
@click.argument("task_path", metavar="TASK", type=path_type)
@click.argument("archive", type=path_type)
@public_option
@click.option("--when", type=click.Choice(["now", "quiet"]), default="now", help="quiet: when the site has least load.")
@click.option("--for", "length", default="30m", help="How long a quiet stretch is needed. [default: 30m]")
@seconds_option
@namespace_option
@site_option
@kubeconfig_option
@json_option
def roll(task_path: Path, archive: Path, key: Path, as_json: bool, **choices: Any) -> None:
    """Switch the task of the document TASK to the model of ARCHIVE, or of its .release.json.

    One container after the other, each checked. If one is bad, all of them get their old model back, and this ends
    with code 4.
    """
    from cumulet.core.errors import TargetError
    from cumulet.models import read_release
    from cumulet.packages import load_public
    from cumulet.tasks import load_profile

    profile = load_profile(task_path)
    release = read_release(archive, load_public(key))
    if choices["when"] == "quiet":
        wait_for_quiet(choices["site_path"], choices["length"])
    done = switch_task(profile.model_copy(update={"mount": release.way}), release.reference, choices)
    if as_json:
        click.echo(json.dumps(asdict(done), indent=1))
    elif not done.changed:
        click.echo(f"{done.task}: has {release.title} already")
    elif not done.returned:
        click.echo(f"{done.task}: has {release.title}")
        click.echo(f"write into {task_path}: model: {release.reference}, mount: {release.way}")
    if done.returned:
        raise TargetError(f"{done.task}: has its old model again: {done.reason}", hint="mend the model, or the check")


@model.command()
@click.argument("task_path", metavar="TASK", type=path_type)
@namespace_option
@seconds_option
@site_option
@kubeconfig_option
def back(task_path: Path, **choices: Any) -> None:
    """Give the task of the document TASK the model back that it had before."""
    from cumulet.models import return_model
    from cumulet.tasks import load_profile

    done = run_switch(load_profile(task_path), "", choices, return_model)
    click.echo(f"{done.task}: has {done.after} again")


@model.command()
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--keep", multiple=True, metavar="MODEL", help="A model that stays although no task has it.")
@site_option
@json_option
def prune(dry_run: bool, keep: tuple[str, ...], site_path: Path, as_json: bool) -> None:
    """Remove models from the devices of a site that no task has, has had before, or is to have."""
    import asyncio

    from cumulet.models import prune_site

    going, staying = asyncio.run(prune_site(site_path, set(keep), dry=dry_run))
    if as_json:
        click.echo(json.dumps({"removed": [asdict(each) for each in going], "kept": len(staying)}, indent=1))
        return
    for each in going:
        show_held(each, "would go" if dry_run else "removed")
    click.echo(f"{len(going)} {'would go' if dry_run else 'removed'}, {len(staying)} kept")


def read_login(path: Path | None) -> str:
    """The `user:password` in a file; empty without one."""
    return path.read_text().strip() if path is not None else ""


def switch_task(profile: Any, reference: str, choices: dict[str, Any]) -> Rolled:
    """Switch a task now."""
    from cumulet.models import roll_model

    return run_switch(profile, reference, choices, roll_model)


def run_switch(profile: Any, reference: str, choices: dict[str, Any], act: Any) -> Rolled:
    """Do something with a task's model in its cluster."""
    import asyncio

    from cumulet.models import Switch as Made
    from cumulet.tasks import reach

    async def work() -> Rolled:
        async with reach(choices["site_path"], choices["kubeconfig"]) as reached:
            switch: Switch = Made(
                reached.api, profile, reference, profile.mount, choices["namespace"],
                lambda text: click.echo(f"  {text}", err=True), seconds=choices["seconds"],
            )  # fmt: skip
            found: Rolled = await act(switch)
            return found

    return asyncio.run(work())


def wait_for_quiet(site_path: Path, length: str) -> None:
    """Wait until the quietest stretch of the coming week begins."""
    from cumulet.core.deadline import Deadline
    from cumulet.monitor import describe_window, find_window_of

    window = find_window_of(site_path, None, length)
    click.echo(f"  waiting for {describe_window(window)}", err=True)
    deadline = Deadline.after(max(0.0, window.start - time.time()))
    while not deadline.passed:
        deadline.sleep(60)


def show_held(each: Held, what: str) -> None:
    """Print a model of a device as a line."""
    click.echo(f"{each.node}: {each.reference}: {each.size >> 20} MiB, {what}")
