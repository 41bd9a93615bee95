"""Reading the facts of an image out of the results of its stages."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Set
from importlib import metadata
from pathlib import Path

from cumulet.core.files import sha256_file
from cumulet_builder.cache import read_record
from cumulet_builder.copyrights import load_copyrights, make_path, package_of
from cumulet_builder.engines.debian.lock import Lock, LockedPackage
from cumulet_builder.formats.layout import make_layout, make_place
from cumulet_builder.kubernetes.inventory import Component, load_components
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.report.budget import make_limits
from cumulet_builder.report.facts import Deb, Facts, Firmware, Kernel, Output, Wheel
from cumulet_builder.report.fragments import make_fragments
from cumulet_builder.report.licences import licence_of_metadata, licences_of_copyright
from cumulet_builder.report.sizes import Partition, Sizes, make_owners, make_rows
from cumulet_builder.rootfs import LAYERS as ROOT_LAYERS
from cumulet_builder.tree import Tree, read_tar

FIRMWARE = "/usr/lib/firmware/"
DISK = "disk.img"
# The stages whose content is drawn as layers of ours, with the archive that each leaves.
LAYERS = {stage: file for stage, file in ROOT_LAYERS.items() if stage != "packages"}


def collect_facts(
    recipe: Recipe, lock: Lock, keys: Mapping[str, str], stages: Mapping[str, Path], fragments: Iterable[Path] = ()
) -> Facts:
    """Everything but the published files. `keys` maps stages to their keys, `stages` to their folders."""
    tree = read_tar(stages["root"] / "root.tar")
    texts = read_copyrights(read_tar(stages["packages"] / "root.tar"))
    texts |= read_copyrights(read_tar(stages["kernel"] / "kernel.tar")) | load_copyrights(stages.values())
    licences = make_licences(lock, texts)
    metadata_of = read_metadata(read_tar(stages["sdk"] / "sdk.tar")) if "sdk" in stages else {}
    return Facts(
        image=recipe.image,
        epoch=lock.epoch,
        suite=recipe.suite,
        architecture=recipe.board.architecture,
        builder=metadata.version("cumulet-board"),
        recipe=recipe.model_dump(mode="json"),
        lock_sha256=lock.digest,
        fragments=make_fragments(fragments),
        debs=tuple(_make_deb(each, licences) for each in lock.of("base", "extra", "boot")),
        tools=tuple(_make_deb(each, {}) for each in _once(lock.of("tools", "twins", "formats"))),
        wheels=tuple(
            Wheel(each.name, each.version, each.file, each.sha256, each.size, metadata_of.get(_plain(each.name), ""))
            for each in lock.wheels
        ),
        firmware=_read_firmware(tree, lock, stages),
        kernel=_read_kernel(recipe, lock, stages["kernel"]),
        inventory=read_inventories(stages.values()),
        stages=dict(keys),
    )


def measure_sizes(recipe: Recipe, stages: Mapping[str, Path]) -> Sizes:
    """The sizes of an image; reads samples of every file in its root."""
    tree = read_tar(stages["root"] / "root.tar")
    packages = json.loads((stages["packages"] / "owners.json").read_text())
    layers = {name: read_tar(path) for name, path in list_layers(stages).items()}
    root = (stages["erofs"] / "root.erofs").stat().st_size
    disk = stages["image"] / DISK
    ranges = probe_stored(disk) if disk.exists() else []
    return Sizes(
        image=recipe.image,
        root=root,
        disk=sum(end - start for start, end in ranges),
        rows=make_rows(tree, make_owners(packages, layers, recipe.engine), root),
        partitions=_make_partitions(recipe, ranges) if ranges else (),
        limits=make_limits(recipe.size_budget),
    )


def list_layers(stages: Mapping[str, Path]) -> dict[str, Path]:
    """Layer of ours -> its archive. bitbake makes its root in one piece: there are none."""
    found = {name: stages[name] / file for name, file in LAYERS.items() if name in stages}
    return {name: path for name, path in found.items() if path.exists()}


def collect_outputs(folder: Path, stages: Iterable[Path]) -> tuple[Output, ...]:
    """The files in a published folder. Digests of copied results come from the stages' own records."""
    known: dict[str, set[tuple[str, int]]] = {}
    for stage in stages:
        record = read_record(stage)
        for name, entry in record["files"].items() if record else ():
            known.setdefault(name, set()).add((str(entry["sha256"]), int(str(entry["size"]))))
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return tuple(make_output(path, known.get(path.name, set())) for path in paths)


def make_output(path: Path, known: Set[tuple[str, int]] = frozenset()) -> Output:
    """A published file; `known` are the digests and sizes recorded for files of its name."""
    size = path.stat().st_size
    if len(known) == 1:
        digest, recorded = next(iter(known))
        if recorded == size:
            return Output(path.name, digest, size)
    return Output(path.name, sha256_file(path), size)


def read_copyrights(tree: Tree) -> dict[str, str]:
    """Package -> the text of its copyright file."""
    return {
        package: tree.read(path).decode(errors="replace")
        for path, node in tree.nodes.items()
        if node.kind == "file" and (package := package_of(path))
    }


def make_licences(lock: Lock, texts: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Package -> its licences. One without a copyright file of its own goes by its source's other packages.

    A text that names no licence in a way that a program understands is pointed at: it is on the device.
    """
    own = {package: licences_of_copyright(text) for package, text in texts.items()}
    sources: dict[str, set[str]] = {}
    for package in lock.packages:
        sources.setdefault(package.source, set()).update(own.get(package.name, ()))
    found = {each.name: own.get(each.name) or tuple(sorted(sources[each.source])) for each in lock.packages}
    return {name: names or ((f"see {make_path(name)}",) if name in texts else ()) for name, names in found.items()}


def read_metadata(tree: Tree) -> dict[str, str]:
    """Python package -> its licence, from the METADATA files in the tree."""
    return {
        _plain(path.rsplit("/", 2)[1].partition("-")[0]): licence_of_metadata(tree.read(path).decode(errors="replace"))
        for path in tree.nodes
        if path.endswith(".dist-info/METADATA")
    }


def read_inventories(stages: Iterable[Path]) -> tuple[Component, ...]:
    """What the stages' inventories list, each thing once."""
    found = {
        (item.kind, item.name, item.version): item
        for stage in stages
        if (stage / "inventory.json").is_file()
        for item in load_components(stage / "inventory.json")
    }
    return tuple(found[key] for key in sorted(found))


def probe_stored(path: Path) -> list[tuple[int, int]]:
    """The ranges of a sparse file that hold content, as (start, end) in bytes."""
    found: list[tuple[int, int]] = []
    size = path.stat().st_size
    with path.open("rb") as stream:
        position = 0
        while position < size:
            try:
                start = os.lseek(stream.fileno(), position, os.SEEK_DATA)
            except OSError:
                # ENXIO: nothing but a hole up to the end.
                break
            position = os.lseek(stream.fileno(), start, os.SEEK_HOLE)
            found.append((start, position))
    return found


def _once(packages: Iterable[LockedPackage]) -> list[LockedPackage]:
    """Each package file once, whatever groups it is in."""
    return list({each.sha256: each for each in packages}.values())


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _make_deb(package: LockedPackage, licences: Mapping[str, tuple[str, ...]]) -> Deb:
    return Deb(
        name=package.name,
        version=package.version,
        architecture=package.architecture,
        sha256=package.sha256,
        size=package.size,
        source=package.source,
        section=package.section,
        licences=licences.get(package.name, ()),
    )


def _read_firmware(tree: Tree, lock: Lock, stages: Mapping[str, Path]) -> tuple[Firmware, ...]:
    owners: dict[str, list[str]] = {}
    for stage in ("packages", "firmware"):
        if stage in stages:
            owners |= json.loads((stages[stage] / "owners.json").read_text())
    owner_of = {path: name for name, paths in owners.items() for path in paths if path.startswith(FIRMWARE)}
    classes = {each.name: _make_deb(each, {}).licence_class for each in lock.packages}
    found = []
    for path, node in tree.nodes.items():
        if path.startswith(FIRMWARE) and node.kind == "file":
            package = owner_of.get(path, "")
            digest = hashlib.sha256(tree.read(path)).hexdigest()
            found.append(Firmware(path, digest, node.size, package, classes.get(package, "non-free-firmware")))
    return tuple(sorted(found, key=lambda each: each.path))


def _read_kernel(recipe: Recipe, lock: Lock, stage: Path) -> Kernel:
    facts = json.loads((stage / "kernel.json").read_text())
    package = next((each for each in lock.of("boot") if each.name.startswith("linux-image-")), None)
    record = read_record(stage)
    return Kernel(
        # One that the recipe brought as a file is in no lock.
        package=package.name if package else Path(str(recipe.board.kernel.file)).name,
        version=package.version if package else facts["version"],
        release=facts["version"],
        sha256=package.sha256 if package else (record or {"inputs": {"package": ""}})["inputs"]["package"],
        modules=len(facts["modules"]),
        device_trees=recipe.board.kernel.device_trees,
    )


def _make_partitions(recipe: Recipe, ranges: Iterable[tuple[int, int]]) -> tuple[Partition, ...]:
    place = make_place(recipe.board.boot, recipe.board.storage)
    layout = make_layout(recipe.disk, recipe.board.architecture, recipe.image, place)
    stored = list(ranges)
    return tuple(
        Partition(
            part.name,
            part.size,
            sum(max(0, min(end, part.start + part.size) - max(start, part.start)) for start, end in stored),
        )
        for part in layout.partitions
    )
