"""The root file system as one tree: every layer merged, then trimmed."""

from __future__ import annotations

import hashlib
import json
import posixpath
from collections.abc import Iterable, Mapping
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.engines.debian.trim import want_kept, want_shipped
from cumulet_builder.firewall import make_firewall_tree
from cumulet_builder.formats.growth import make_growth_tree
from cumulet_builder.ownership import Owner, check_owned, find_owners
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.radio import make_radio_tree
from cumulet_builder.recipe.model import Recipe, Trim
from cumulet_builder.system import make_system_tree
from cumulet_builder.tree import Tree, filter_tree, follow, merge, read_tar, write_tar

CODE = "3"

# Stage -> its layer, in the order in which they are laid over each other.
LAYERS = {
    "packages": "root.tar",
    "kernel": "kernel.tar",
    "firmware": "firmware.tar",
    "juicer": "juicer.tar",
    "kubernetes": "kubernetes.tar",
    "sdk": "sdk.tar",
}
# Folders that something is mounted on, or that a running system expects.
FOLDERS = ("/dev", "/proc", "/sys", "/run", "/tmp", "/data", "/var/lib", "/var/log", "/var/tmp", "/boot", "/mnt")


def make_root_stage(recipe: Recipe, lock: Lock) -> Stage:
    """`root.tar`: the whole tree of the root partition."""
    system = make_settings_tree(recipe, lock.digest[:12])
    files = make_files_tree(recipe)
    inputs = {
        "code": CODE,
        "system": digest_of(system),
        "files": digest_of(files),
        "trim": recipe.trim.model_dump_json(),
    }
    optional = {
        "firmware": bool(recipe.board.firmware),
        "juicer": bool(recipe.board.firmware_from),
        "kubernetes": recipe.kubernetes is not None,
    }
    needs = tuple(stage for stage in LAYERS if optional.get(stage, True))

    def make(workshop: Workshop) -> None:
        tree = make_root_tree(recipe, workshop.needs, [system, files])
        check_owned(recipe.image, tree, load_owners(tree, workshop.needs, system, files))
        with (workshop.folder / "root.tar").open("wb") as stream:
            write_tar(tree, stream, workshop.epoch)

    return Stage("root", inputs, make, needs)


def load_owners(tree: Tree, stages: Mapping[str, Path], settings: Tree, files: Tree) -> dict[str, Owner]:
    """Path -> who put it into the root, from what the stages left."""
    packages: dict[str, list[str]] = {}
    for stage in ("packages", "firmware"):
        if stage in stages and (stages[stage] / "owners.json").is_file():
            packages |= json.loads((stages[stage] / "owners.json").read_text())
    layers = {
        stage: read_tar(stages[stage] / name)
        for stage, name in LAYERS.items()
        if stage in stages and stage not in ("packages", "firmware")
    }
    return find_owners(tree, packages, layers, settings, files)


def make_settings_tree(recipe: Recipe, build: str) -> Tree:
    """Units, scripts and settings that lie over the packages, whichever engine they come from.

    `build` names the lock that they go with.
    """
    return merge(
        [make_growth_tree(), make_system_tree(recipe, build), make_radio_tree(recipe), make_firewall_tree(recipe)]
    )


def digest_of(tree: Tree) -> str:
    """A digest of a small tree: names, modes, targets and contents."""
    digest = hashlib.sha256()
    for path, node in tree.walk():
        digest.update(f"{path} {node.kind} {node.mode:o} {node.uid}:{node.gid} {node.target}\n".encode())
        digest.update(tree.read(path))
    return digest.hexdigest()


def make_root_tree(recipe: Recipe, stages: Mapping[str, Path], own: Iterable[Tree]) -> Tree:
    """The whole tree of a root partition. `own` are the layers made without a stage: system, then files."""
    layers = [read_tar(stages[stage] / name) for stage, name in LAYERS.items() if stage in stages]
    whole = merge([*layers, *own])
    check_files(recipe, whole)
    tree = trim_tree(whole, recipe.trim)
    for folder in FOLDERS:
        if folder not in tree.nodes:
            tree.folder(folder, 0o1777 if folder.endswith("tmp") else 0o755)
    return drop_dangling(tree)


def check_files(recipe: Recipe, tree: Tree) -> None:
    """Raise UsageError if a file of the recipe stands where the image has a folder."""
    links = make_links(tree)
    for file in recipe.files:
        start = follow(file.path, links.get) + "/"
        below = next((path for path in tree.nodes if path.startswith(start)), None)
        if below:
            raise UsageError(f"files: {file.path}: a folder in this image, with {below}", hint="choose another path")


def trim_tree(tree: Tree, trim: Trim) -> Tree:
    """The tree without what is not shipped. What the recipe keeps stays, with its folders, wherever it is."""
    want = want_shipped(trim)
    shipped = filter_tree(tree, lambda path, _: want(path)).nodes
    kept = {path for path in tree.nodes if want_kept(trim, path)}
    kept |= {path[:end] for path in kept for end, letter in enumerate(path) if letter == "/"}
    return filter_tree(tree, lambda path, _: path in shipped or path in kept)


def drop_dangling(tree: Tree) -> Tree:
    """The tree without alternatives and units that point at something that was trimmed away."""
    links = make_links(tree)

    def leads_somewhere(path: str) -> bool:
        node = tree.nodes[path]
        if node.kind != "link" or not path.startswith(
            ("/etc/alternatives/", "/etc/systemd/", "/usr/bin/", "/usr/sbin/")
        ):
            return True
        target = posixpath.normpath(posixpath.join(posixpath.dirname(path), node.target))
        return target.startswith(("/dev", "/run", "/proc")) or follow(target, links.get) in tree.nodes

    for _ in range(3):
        kept = {path: node for path, node in tree.nodes.items() if leads_somewhere(path)}
        if len(kept) == len(tree.nodes):
            break
        tree = Tree(kept)
    return tree


def make_links(tree: Tree) -> dict[str, str]:
    """Path -> target of every symbolic link."""
    return {path: node.target for path, node in tree.nodes.items() if node.kind == "link"}


def make_files_tree(recipe: Recipe) -> Tree:
    """The files that the recipe itself brings. Raises UsageError if a source is missing."""
    tree = Tree()
    for file in recipe.files:
        content: bytes = (file.content or "").encode()
        if file.source is not None:
            try:
                content = Path(file.source).read_bytes()
            except OSError as error:
                raise UsageError(
                    f"files: {file.source}: {error.strerror}", hint="it is read from beside its recipe"
                ) from error
        tree.file(file.path, content, int(file.mode, 8))
    return tree
