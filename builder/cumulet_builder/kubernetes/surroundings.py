"""What a build lends to the stages of Kubernetes, and what both distributions pack alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cumulet.kubernetes import Cluster, Setup
from cumulet_builder.plan import Workshop
from cumulet_builder.recipe.model import Kubernetes, Recipe
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, write_tar

UNITS = "/usr/lib/systemd/system"
ENABLED = "/etc/systemd/system"


@dataclass(frozen=True)
class Surroundings:
    """The recipes folder, and the tools: how to open them, and the names of the stages they come from."""

    recipes: Path
    toolbox: Callable[[Workshop], Toolbox]
    needs: tuple[str, ...] = ()


def get_settings(recipe: Recipe) -> Kubernetes:
    """The Kubernetes part of a recipe that has one."""
    if recipe.kubernetes is None:
        raise ValueError(f"recipe {recipe.image} has no Kubernetes")
    return recipe.kubernetes


def make_cluster(settings: Kubernetes) -> Cluster:
    """The cluster that a node of this image starts by itself."""
    return Cluster(pod_cidr=settings.pod_cidr, service_cidr=settings.service_cidr, addons=settings.addons)


def make_setup_tree(setup: Setup) -> Tree:
    """A setup as a layer of the root: files, links, and the links that start units at boot."""
    tree = Tree()
    for path, text in setup.files.items():
        tree.file(path, text.content, text.mode)
    for path, target in setup.links.items():
        tree.link(path, target)
    for unit in setup.enable:
        for target in read_wanted_by(setup.files[f"{UNITS}/{unit}"].content):
            tree.link(f"{ENABLED}/{target}.wants/{unit}", f"{UNITS}/{unit}")
    return tree


def read_wanted_by(unit: str) -> list[str]:
    """The targets that want a unit, from its text."""
    return [
        word
        for line in unit.splitlines()
        if line.startswith("WantedBy=")
        for word in line.removeprefix("WantedBy=").split()
    ]


def write_tree(tree: Tree, path: Path, workshop: Workshop) -> None:
    """Write a tree as the tar archive that the next stages read."""
    with path.open("wb") as stream:
        write_tar(tree, stream, workshop.epoch)
