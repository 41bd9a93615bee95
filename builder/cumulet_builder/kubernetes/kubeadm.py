"""Upstream Kubernetes in an image: programs built from Go modules, run by systemd, images preloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet.core.files import sha256_text
from cumulet.kubernetes import kubeadm
from cumulet.kubernetes.kubeadm_services import make_preload_unit
from cumulet.kubernetes.layout import IMAGES, VERSIONS
from cumulet.kubernetes.model import Setup
from cumulet_builder.kubernetes import gomodules
from cumulet_builder.kubernetes.images import (
    ADDON_IMAGES,
    CLUSTER_IMAGES,
    PAUSE_IMAGE,
    ImageSpec,
    make_content,
    make_layer_folder,
    make_preload_files,
    pack_images,
)
from cumulet_builder.kubernetes.inventory import Component, load_components, write_inventory
from cumulet_builder.kubernetes.oci import Image, write_archive
from cumulet_builder.kubernetes.pins import KubeadmPin, load_pin
from cumulet_builder.kubernetes.preflight import KUBEADM, Requirements
from cumulet_builder.kubernetes.preload import STATE, make_mark, preload
from cumulet_builder.kubernetes.surroundings import (
    UNITS,
    Surroundings,
    get_settings,
    make_cluster,
    make_setup_tree,
    write_tree,
)
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Recipe
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, merge

CODE = "1"
REQUIREMENTS: Requirements = KUBEADM
PACKAGES: tuple[str, ...] = ("containernetworking-plugins", "haproxy", "iproute2", "kmod", "mount", "nftables", "runc")
# Mount points: their content is on the data partition.
STATE_FOLDERS = ("/var/lib/containerd", "/var/lib/kubelet", "/var/lib/etcd")


def make_stages(recipe: Recipe, around: Surroundings) -> list[Stage]:
    """`programs`, then `kubernetes`. Raises UsageError for a source or version there is not."""
    settings = get_settings(recipe)
    if settings.source not in (None, "modules"):
        raise UsageError(
            f"kubernetes.source: kubeadm cannot come from {settings.source!r}",
            hint="set it to modules, or leave it out",
        )
    pin = _load(recipe, around)
    folder = around.recipes / "kubernetes/kubeadm" / pin.sources
    programs = gomodules.make_stage(pin, folder, recipe.board.architecture, gomodules.find_go(folder))
    return [programs, _make_kubernetes_stage(recipe, pin, around)]


def make_archive_stage(recipe: Recipe, around: Surroundings) -> Stage:
    """The stage `images`: `images.tar`, every image of a cluster for nodes made elsewhere. Needs `programs`."""
    pin = _load(recipe, around)

    def make(workshop: Workshop) -> None:
        specs = [
            (spec, _version_of(spec, pin))
            for spec in (PAUSE_IMAGE, *ADDON_IMAGES, *CLUSTER_IMAGES)
            if spec.program in pin.programs
        ]
        programs = workshop.needs["programs"]
        images = pack_images(specs, programs, recipe.board.architecture, workshop, around.toolbox(workshop))
        with (workshop.folder / "images.tar").open("wb") as stream:
            write_archive(images, stream, workshop.epoch)
        _drop_blobs(workshop.folder)

    inputs = {"code": CODE, "architecture": recipe.board.architecture, "release": pin.release}
    return Stage("images", inputs, make, ("programs", *around.needs))


def _make_kubernetes_stage(recipe: Recipe, pin: KubeadmPin, around: Surroundings) -> Stage:
    cluster = make_cluster(get_settings(recipe))
    setup = kubeadm.make_image_setup(cluster)
    specs = [(spec, _version_of(spec, pin)) for spec in make_specs(cluster.addons)]

    def make(workshop: Workshop) -> None:
        _fill(_Contents(pin, setup, specs, recipe.board.architecture), workshop, around.toolbox(workshop))

    inputs = {
        "code": CODE,
        "architecture": recipe.board.architecture,
        "setup": digest_setup(setup),
        "images": " ".join(f"{spec.name}:{version}" for spec, version in specs),
    }
    return Stage("kubernetes", inputs, make, ("programs", *around.needs))


def make_specs(addons: tuple[str, ...]) -> list[ImageSpec]:
    """The images that are in the image: pause, and those of the addons."""
    return [PAUSE_IMAGE, *(spec for spec in ADDON_IMAGES if spec.name in addons)]


def digest_setup(setup: Setup) -> str:
    """One digest of everything a setup says."""
    files = [f"{path} {text.mode:o} {sha256_text(text.content)}" for path, text in sorted(setup.files.items())]
    links = [f"{path} -> {target}" for path, target in sorted(setup.links.items())]
    return sha256_text("\n".join([*files, *links, *setup.enable]))


@dataclass(frozen=True)
class _Contents:
    """What goes into the layer: programs by pin, settings, images with their versions."""

    pin: KubeadmPin
    setup: Setup
    specs: list[tuple[ImageSpec, str]]
    architecture: str


def _fill(contents: _Contents, workshop: Workshop, toolbox: Toolbox) -> None:
    programs = workshop.needs["programs"]
    specs = [spec for spec, _ in contents.specs]
    images = pack_images(contents.specs, programs, contents.architecture, workshop, toolbox)
    offered = make_preload_files(
        [(image, spec.pinned) for image, spec in zip(images, specs, strict=True)], workshop.epoch
    )
    mark = make_mark(offered.read(f"{IMAGES}/preload.json"))
    layers = [
        make_root(contents.pin, contents.setup, programs),
        offered,
        make_layers(images, specs, programs),
        make_preload_tree(mark),
    ]
    data = preload(offered, programs / "containerd", contents.architecture, workshop, toolbox)
    data.folder(f"{STATE}/{mark}")
    write_tree(merge(layers), workshop.folder / "kubernetes.tar", workshop)
    write_tree(data, workshop.folder / "data.tar", workshop)
    components = load_components(programs / "inventory.json")
    wanted = {spec.program for spec in specs} | {name for name, each in contents.pin.programs.items() if each.path}
    kept = [each for each in components if each.kind != "program" or each.name in wanted]
    write_inventory([*kept, *make_image_components(images, components)], workshop.folder / "inventory.json")
    _drop_blobs(workshop.folder)


def make_preload_tree(mark: str) -> Tree:
    """The unit that does on the node, after an update of the root, what `preload` does here."""
    name = "cumulet-preload.service"
    return make_setup_tree(Setup({f"{UNITS}/{name}": make_preload_unit(f"/var/lib/containerd/{mark}")}, enable=(name,)))


def make_root(pin: KubeadmPin, setup: Setup, programs: Path) -> Tree:
    """Programs, settings, units and mount points."""
    tree = make_setup_tree(setup)
    for name, program in pin.programs.items():
        if program.path:
            tree.file(program.path, programs / name, 0o755)
    for folder in STATE_FOLDERS:
        tree.folder(folder, 0o700 if folder.endswith("etcd") else 0o755)
    return tree


def make_layers(images: list[Image], specs: list[ImageSpec], programs: Path) -> Tree:
    """The unpacked layers, each in the folder that containers mount it from."""
    tree = Tree()
    for image, spec in zip(images, specs, strict=True):
        for path, node in make_content(programs / spec.program, spec.names).walk():
            tree.nodes[make_layer_folder(image.layers[0]) + path] = node
    return tree


def make_image_components(images: list[Image], programs: list[Component]) -> list[Component]:
    """Images as components, under the licence of their program."""
    licences = {each.name: each.licence for each in programs if each.kind == "program"}
    rows = []
    for image in images:
        name, _, version = image.name.rpartition(":")
        licence = licences.get(name.rpartition("/")[2], "Apache-2.0")
        rows.append(Component(name, version, "image", licence, image.manifest.digest.removeprefix("sha256:")))
    return rows


def _version_of(spec: ImageSpec, pin: KubeadmPin) -> str:
    return VERSIONS.get(spec.name, pin.release.removeprefix("v"))


def _load(recipe: Recipe, around: Surroundings) -> KubeadmPin:
    pin = load_pin(around.recipes, "kubeadm", get_settings(recipe).version)
    if not isinstance(pin, KubeadmPin):
        raise UsageError(f"kubernetes: the pin {pin.release} is not one of kubeadm")
    return pin


def _drop_blobs(folder: Path) -> None:
    for path in (folder / "blobs").iterdir():
        path.unlink()
    (folder / "blobs").rmdir()
