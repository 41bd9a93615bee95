"""Putting an image where people find it: the disk, what boots it, and everything known about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet import __version__
from cumulet.core import proc
from cumulet.core.files import publishing, sha256_file, sha256_text
from cumulet_builder.engines.locks import AnyLock, make_lock_text
from cumulet_builder.plan import Step
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.write import write_reports
from cumulet_builder.toolbox import make_namespace, raise_failure, remove_tree

BUILD = "build.json"
# Copied from the stages' results, when they made them: stage -> file names.
PUBLISHED = {
    "kernel": ("vmlinuz",),
    "initramfs": ("initrd.img",),
    "hardware": ("hardware.json",),
    "bitbake": ("boot.img", "disk.simg", "sbom.spdx.json"),
    "image": (
        *("disk.img", "disk.bmap", "disk.simg", "boot.img", "vbmeta.img"),
        *("cmdline.txt", "root.tar.zst", "root.oci.tar"),
    ),
}


@dataclass(frozen=True)
class Image:
    """A published image. `changed` is False if it was up to date."""

    folder: Path
    recipe: Recipe
    changed: bool


@dataclass(frozen=True)
class Result:
    """What a build leaves to publish: its decisions, the stages' folders, its log, the documents it read."""

    recipe: Recipe
    lock: AnyLock
    steps: Sequence[Step]
    stages: Mapping[str, Path]
    log: Path
    fragments: Sequence[Path]


def publish(result: Result, folder: Path) -> Image:
    """Fill `folder` with everything there is of an image; the old content stays until the new is whole."""
    recipe, lock, stages = result.recipe, result.lock, result.stages
    with publishing(folder) as new:
        for stage, names in PUBLISHED.items():
            for name in names:
                if stage in stages and (stages[stage] / name).exists():
                    # With its holes, and sharing its blocks where the file system can.
                    _copy(["--reflink=auto", "--sparse=always", stages[stage] / name, new / name], folder)
        if (stages["image"] / "root").is_dir():
            _copy(["-a", "--reflink=auto", stages["image"] / "root", new / "root"], folder, make_namespace())
        _write_documents(recipe, lock, new)
        keys = {step.stage.name: step.key for step in result.steps}
        write_reports(recipe, lock, keys, stages, new, fragments=result.fragments)
        shutil.copyfile(result.log, new / "build.log")
        build = {"stages": keys, "documents": digest_of(recipe, lock, result.fragments), "files": _sizes_of(new)}
        (new / BUILD).write_text(json.dumps(build, indent=1))
    clear_up(folder)
    return Image(folder, recipe, changed=True)


def is_published(folder: Path, steps: Sequence[Step], documents: str) -> bool:
    """Whether `folder` holds the result of just these stages and documents, with no file missing or of another size."""
    try:
        build = json.loads((folder / BUILD).read_text())
        same = build["stages"] == {step.stage.name: step.key for step in steps} and build["documents"] == documents
        return same and all((folder / name).stat().st_size == size for name, size in build["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def digest_of(recipe: Recipe, lock: AnyLock, fragments: Sequence[Path]) -> str:
    """A digest of what the published documents say beside the stages: checks, budget, QEMU settings, versions."""
    read = [sha256_file(path) for path in fragments]
    return sha256_text("\n".join([__version__, recipe.model_dump_json(), lock.digest, *read]))


def clear_up(folder: Path) -> None:
    """Undo what a killed build left beside `folder`. The caller holds the lock of the folder."""
    start = f".old-{folder.name}-"
    for aside in [each for each in folder.parent.glob(f"{start}*") if each.name.removeprefix(start).isdigit()]:
        # Killed between moving the old folder away and the new one in: the old one is the last that was whole.
        if folder.exists():
            remove_tree(aside)
        else:
            aside.rename(folder)
    for half in folder.parent.glob(f".tmp-{folder.name}-????????"):
        remove_tree(half)


def _copy(words: Sequence[str | Path], folder: Path, start: Sequence[str] = ()) -> None:
    result = proc.run([*start, "cp", *words], check=False)
    if result.code != 0:
        raise_failure(proc.Result(("cp", *map(str, words)), result.code, result.out, result.err), folder)


def _write_documents(recipe: Recipe, lock: AnyLock, folder: Path) -> None:
    kubernetes = recipe.kubernetes
    image = {
        "image": recipe.image,
        "architecture": recipe.board.architecture,
        "test": list(recipe.test),
        "ssh": recipe.ssh.enabled,
        "firewall": recipe.firewall.enabled,
        "kubernetes": kubernetes.model_dump(mode="json") if kubernetes else None,
        "modem": recipe.modem.model_dump(mode="json") if recipe.modem else None,
        "gnss": recipe.gnss.model_dump(mode="json") if recipe.gnss else None,
    }
    (folder / "image.json").write_text(json.dumps(image, indent=1))
    (folder / "board.json").write_text(json.dumps(recipe.board.model_dump(mode="json"), indent=1))
    (folder / "lock.json").write_text(make_lock_text(lock))


def _sizes_of(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
