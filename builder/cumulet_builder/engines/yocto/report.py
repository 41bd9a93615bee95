"""The facts of an image of the yocto engine, for the same reports as every image: packages from its own description."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from cumulet_builder.engines.yocto import deploy
from cumulet_builder.engines.yocto.repositories import SERIES, LayerLock
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.facts import Facts, Firmware, Kernel, LayerPackage, Repository
from cumulet_builder.report.fragments import make_fragments
from cumulet_builder.tree import Tree, read_tar

FIRMWARE = "/usr/lib/firmware/"
SPDX = "sbom.spdx.json"
# Distributable, but not under a licence that lets anybody change it.
CLOSED = ("Firmware", "CLOSED", "Proprietary")


def collect_facts(
    recipe: Recipe, lock: LayerLock, keys: Mapping[str, str], stages: Mapping[str, Path], fragments: Iterable[Path] = ()
) -> Facts:
    """Everything but the published files. `keys` maps stages to their keys, `stages` to their folders."""
    facts = deploy.load_facts(stages["packages"] / "facts.json")
    spdx = stages["bitbake"] / SPDX
    layers = load_layers(spdx) if spdx.exists() else {}
    tree = read_tar(stages["root"] / "root.tar")
    kernel = json.loads((stages["kernel"] / "kernel.json").read_text())
    return Facts(
        image=recipe.image,
        epoch=lock.epoch,
        suite=SERIES,
        architecture=recipe.board.architecture,
        builder=metadata.version("cumulet-board"),
        recipe=recipe.model_dump(mode="json"),
        lock_sha256=lock.digest,
        fragments=make_fragments(fragments),
        layer_packages=tuple(make_package(each, layers.get(each.recipe, each.layer)) for each in facts.packages),
        repositories=tuple(Repository(each.name, each.url, each.commit) for each in lock.repositories),
        firmware=tuple(list_firmware(tree, facts.packages)),
        kernel=Kernel(
            package=facts.kernel.recipe,
            version=_version(facts, facts.kernel.recipe),
            release=kernel["version"],
            sha256=hashlib.sha256((stages["kernel"] / "vmlinuz").read_bytes()).hexdigest(),
            modules=len(kernel["modules"]),
            device_trees=recipe.board.kernel.device_trees,
        ),
        stages=dict(keys),
        linked=(SPDX,) if spdx.exists() else (),
    )


def make_package(package: deploy.FactsPackage, layer: str) -> LayerPackage:
    """A package as the reports have it."""
    return LayerPackage(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        recipe=package.recipe,
        recipe_version=package.recipe_version,
        layer=layer,
        licence=make_licence(package.licence),
    )


def make_licence(text: str) -> str:
    """A licence of a recipe as an SPDX expression: openembedded-core writes `&` and `|`."""
    words = text.replace("&", " AND ").replace("|", " OR ").split()
    return " ".join(words).replace("( ", "(").replace(" )", ")")


def load_layers(spdx: Path) -> dict[str, str]:
    """Recipe -> layer, from the package URLs of openembedded-core's own bill of materials."""
    found = {}
    for element in _elements(json.loads(spdx.read_text())):
        parts = str(element.get("software_packageUrl", "")).removeprefix("pkg:yocto/").split("/")
        if len(parts) == 2:
            found[parts[1].partition("@")[0]] = parts[0]
    return found


def _elements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [each for each in document.get("@graph", []) if isinstance(each, dict)]


def list_firmware(tree: Tree, packages: Iterable[deploy.FactsPackage]) -> Iterable[Firmware]:
    """The firmware files in a root, with the package that each is from."""
    owners = {path: each for each in packages for path in each.files if path.startswith(FIRMWARE)}
    for path, node in tree.walk():
        if path.startswith(FIRMWARE) and node.kind == "file":
            owner = owners.get(path)
            closed = owner is None or any(word in owner.licence for word in CLOSED)
            digest = hashlib.sha256(tree.read(path)).hexdigest()
            kind = "non-free-firmware" if closed else "main"
            yield Firmware(path, digest, node.size, owner.name if owner else "", kind)


def _version(facts: deploy.ImageFacts, recipe: str) -> str:
    return next((each.recipe_version for each in facts.packages if each.recipe == recipe), "")
