"""Which container images there are, and how they are packed from the programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cumulet.kubernetes.layout import IMAGES, LAYERS, make_image_name
from cumulet_builder.kubernetes.oci import Image, Layer, make_image, make_layer
from cumulet_builder.plan import Workshop
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, write_tar

# Of the programs: 9 gives 27.1 MB of 115 MB in 1.5 s, gzip 31.9 MB in 3.2 s, zstd 15 26.8 MB in 9 s.
LEVEL = "-9"
KUBE_NAMES = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler")


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An image of one program: `names` are the names it is known by inside, the first is started."""

    name: str
    program: str
    names: tuple[str, ...]
    pinned: bool = True


ADDON_IMAGES = (
    ImageSpec("coredns", "coredns", ("coredns",)),
    ImageSpec("metrics-server", "metrics-server", ("metrics-server",)),
)
PAUSE_IMAGE = ImageSpec("pause", "pause", ("pause",))
CLUSTER_IMAGES = (
    *(ImageSpec(name, "kube", (name, *(each for each in KUBE_NAMES if each != name))) for name in KUBE_NAMES),
    ImageSpec("etcd", "etcd", ("etcd", "etcdctl")),
    ImageSpec("flannel", "flannel", ("flanneld",)),
)


def make_content(program: Path, names: Sequence[str]) -> Tree:
    """The one layer of an image: the program, known by every name, in alphabetical order."""
    first, *others = sorted(names)
    tree = Tree()
    tree.file(f"/{first}", program, 0o755)
    for name in others:
        tree.link(f"/{name}", first)
    return tree


def pack_images(
    specs: Sequence[tuple[ImageSpec, str]], programs: Path, architecture: str, workshop: Workshop, toolbox: Toolbox
) -> list[Image]:
    """Pack images (spec and version). Layers stay in the stage's folder `blobs`; equal ones are packed once."""
    folder = workshop.folder / "blobs"
    folder.mkdir(exist_ok=True)
    packed: dict[tuple[str, tuple[str, ...]], Layer] = {}
    images: list[Image] = []
    for spec, version in specs:
        key = (spec.program, tuple(sorted(spec.names)))
        if key not in packed:
            packed[key] = _pack_layer(make_content(programs / spec.program, spec.names), folder, workshop, toolbox)
        settings = {"Entrypoint": [f"/{spec.names[0]}"], "WorkingDir": "/"}
        images.append(make_image(make_image_name(spec.name, version), [packed[key]], architecture, settings))
    return images


def make_layer_folder(layer: Layer) -> str:
    """Where the unpacked layer lies in the root file system."""
    return f"{LAYERS}/{layer.diff_id.removeprefix('sha256:')[:16]}"


def make_preload_files(images: Sequence[tuple[Image, bool]], epoch: int) -> Tree:
    """preload.json with the manifests and configs that it names; images come with whether they are pinned."""
    tree, rows = Tree(), []
    for image, pinned in images:
        for blob in (image.manifest, image.config):
            tree.file(f"{IMAGES}/blobs/{blob.digest.replace(':', '/')}", blob.content)
        layers = [
            {"chain": chain, "path": make_layer_folder(layer), "size": layer.blob.size}
            for layer, chain in zip(image.layers, image.chains, strict=True)
        ]
        rows.append({"name": image.name, "pinned": pinned, "manifest": image.manifest.describe(), "layers": layers})
    text = json.dumps({"epoch": epoch, "images": rows}, indent=1) + "\n"
    tree.file(f"{IMAGES}/preload.json", text)
    return tree


def _pack_layer(content: Tree, folder: Path, workshop: Workshop, toolbox: Toolbox) -> Layer:
    tar = folder / "layer.tar"
    with tar.open("wb") as stream:
        write_tar(content, stream, workshop.epoch)
    stored = folder / "layer.tar.zst"
    toolbox.run(["zstd", "-q", "-T2", LEVEL, "-f", tar, "-o", stored], folders=[folder], log=workshop.log)
    layer = make_layer(tar, stored, "zstd")
    tar.unlink()
    target = folder / layer.blob.digest.removeprefix("sha256:")
    stored.replace(target)
    return make_layer_at(layer, target)


def make_layer_at(layer: Layer, path: Path) -> Layer:
    """The same layer, stored in another file."""
    return replace(layer, blob=replace(layer.blob, content=path))
