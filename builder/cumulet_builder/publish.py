"""Putting an image where people find it: the disk, what boots it, and everything known about it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cumulet.core import proc
from cumulet.core.files import publishing
from cumulet_builder.engines.debian.lock import Lock, make_lock_text
from cumulet_builder.plan import Step
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.write import write_reports

BUILD = "build.json"
# Copied from the stages' results, when they made them: stage -> file names.
PUBLISHED = {
    "kernel": ("vmlinuz",),
    "initramfs": ("initrd.img",),
    "image": ("disk.img", "disk.bmap", "cmdline.txt", "root.tar.zst", "root.oci.tar"),
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
    lock: Lock
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
                    copy_sparse(stages[stage] / name, new / name)
        if (stages["image"] / "root").is_dir():
            proc.run(["cp", "-a", "--reflink=auto", stages["image"] / "root", new / "root"])
        _write_documents(recipe, lock, new)
        keys = {step.stage.name: step.key for step in result.steps}
        write_reports(recipe, lock, keys, stages, new, fragments=result.fragments)
        shutil.copyfile(result.log, new / "build.log")
        (new / BUILD).write_text(json.dumps(_make_build(result.steps, new), indent=1))
    return Image(folder, recipe, changed=True)


def is_published(folder: Path, steps: Sequence[Step]) -> bool:
    """Whether `folder` holds the result of just these stages, with no file missing or of another size."""
    try:
        build = json.loads((folder / BUILD).read_text())
        same = build["stages"] == {step.stage.name: step.key for step in steps}
        return same and all((folder / name).stat().st_size == size for name, size in build["files"].items())
    except (OSError, ValueError, KeyError):
        return False


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file with its holes; shares its blocks where the file system can."""
    proc.run(["cp", "--reflink=auto", "--sparse=always", source, target])


def _write_documents(recipe: Recipe, lock: Lock, folder: Path) -> None:
    kubernetes = recipe.kubernetes
    image = {
        "image": recipe.image,
        "architecture": recipe.board.architecture,
        "test": list(recipe.test),
        "ssh": recipe.ssh.enabled,
        "kubernetes": kubernetes.model_dump(mode="json") if kubernetes else None,
    }
    (folder / "image.json").write_text(json.dumps(image, indent=1))
    (folder / "board.json").write_text(json.dumps(recipe.board.model_dump(mode="json"), indent=1))
    (folder / "lock.json").write_text(make_lock_text(lock))


def _make_build(steps: Sequence[Step], folder: Path) -> dict[str, object]:
    return {
        "stages": {step.stage.name: step.key for step in steps},
        "files": {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()},
    }
