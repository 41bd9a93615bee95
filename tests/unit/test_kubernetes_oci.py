"""OCI archives and images: the same bytes every time, layers once, and every change found."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cumulet.core.errors import TargetError
from cumulet_builder.cache import open_cache
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
from cumulet_builder.kubernetes.inventory import Component
from cumulet_builder.kubernetes.kubeadm import make_image_components, make_layers, make_specs
from cumulet_builder.kubernetes.oci import (
    NAME_KEYS,
    Image,
    list_images,
    make_chains,
    make_image,
    make_layer,
    verify_archive,
    write_archive,
)
from cumulet_builder.plan import Workshop
from cumulet_builder.tree import Tree, write_tar

EPOCH = 1_700_000_000


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


@pytest.fixture
def images(tmp_path: Path) -> list[Image]:
    """Two images of one layer, one of another."""
    made = {}
    for name in ("a", "b"):
        tree, tar, stored = Tree(), tmp_path / f"{name}.tar", tmp_path / f"{name}.gz"
        tree.file(f"/{name}", name * 100, 0o755)
        with tar.open("wb") as stream:
            write_tar(tree, stream, EPOCH)
        stored.write_bytes(gzip.compress(tar.read_bytes(), mtime=0))
        made[name] = make_layer(tar, stored, "gzip")
    return [
        make_image("cumulet.dev/two:1", [made["b"]], "arm64", {"Entrypoint": ["/b"]}),
        make_image("cumulet.dev/one:1", [made["a"]], "arm64", {"Entrypoint": ["/a"]}),
        make_image("cumulet.dev/same:1", [made["a"]], "arm64", {"Entrypoint": ["/a"], "Env": ["X=1"]}),
    ]


@pytest.fixture
def archive(tmp_path: Path, images: list[Image]) -> Path:
    path = tmp_path / "images.tar"
    with path.open("wb") as stream:
        write_archive(images, stream, EPOCH)
    return path


def read(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as archive:
        return {member.name: archive.extractfile(member).read() for member in archive}  # type: ignore[union-attr]


def rewrite(path: Path, change: Callable[[dict[str, bytes]], object]) -> None:
    """Change the files of an archive."""
    files = read(path)
    change(files)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def test_archive_has_the_layout_that_containerd_reads(archive: Path, images: list[Image]) -> None:
    files = read(archive)
    assert json.loads(files["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads(files["index.json"])
    assert [each["annotations"] for each in index["manifests"]] == [
        dict.fromkeys(NAME_KEYS, f"cumulet.dev/{name}:1") for name in ("one", "same", "two")
    ]
    for name, data in files.items():
        if name.startswith("blobs/"):
            assert digest(data) == name.removeprefix("blobs/").replace("/", ":")
    for entry in index["manifests"]:
        manifest = json.loads(files["blobs/" + entry["digest"].replace(":", "/")])
        config = json.loads(files["blobs/" + manifest["config"]["digest"].replace(":", "/")])
        (layer,) = manifest["layers"]
        blob = files["blobs/" + layer["digest"].replace(":", "/")]
        assert layer["mediaType"].endswith("tar+gzip")
        assert config["rootfs"]["diff_ids"] == [digest(gzip.decompress(blob))]
        assert (config["architecture"], config["os"]) == ("arm64", "linux")


def test_archive_is_the_same_whatever_the_order(archive: Path, images: list[Image], tmp_path: Path) -> None:
    again = io.BytesIO()
    write_archive(reversed(images), again, EPOCH)
    assert again.getvalue() == archive.read_bytes()
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
    assert {(each.mtime, each.uid, each.uname, each.mode) for each in members} == {(EPOCH, 0, "", 0o644)}
    blobs = [each.name for each in members if each.name.startswith("blobs/")]
    assert blobs == sorted(blobs)


def test_a_layer_of_two_images_is_stored_once(archive: Path, images: list[Image]) -> None:
    with tarfile.open(archive) as opened:
        names = opened.getnames()
    assert len(names) == len(set(names)) == 2 + 3 + 3 + 2  # layout and index, manifests, configs, layers
    assert list_images(archive) == {image.name: image.manifest.digest for image in images}
    assert verify_archive(archive) == []


def test_a_changed_blob_is_found(archive: Path, images: list[Image]) -> None:
    for blob in (images[0].layers[0].blob, images[0].config, images[0].manifest):
        pristine = archive.read_bytes()
        name = f"blobs/{blob.digest.replace(':', '/')}"
        rewrite(archive, lambda files, name=name: files.update({name: files[name][:-1] + b"!"}))
        assert verify_archive(archive) == [f"{blob.digest}: another content"]
        archive.write_bytes(pristine)


def test_a_missing_blob_is_found_once(archive: Path, images: list[Image]) -> None:
    blob = images[1].layers[0].blob
    rewrite(archive, lambda files: files.pop(f"blobs/{blob.digest.replace(':', '/')}"))
    assert verify_archive(archive) == [f"{blob.digest}: missing, or not of {blob.size} bytes"]


@pytest.mark.parametrize("read_it", [list_images, verify_archive])
def test_what_is_no_archive_is_an_error_of_the_image(
    archive: Path, tmp_path: Path, read_it: Callable[[Path], object]
) -> None:
    cut, text, other, broken = (tmp_path / name for name in ("cut", "text", "other", "broken"))
    cut.write_bytes(archive.read_bytes()[:1600])
    text.write_text("no archive at all")
    other.write_bytes(archive.read_bytes())
    rewrite(other, lambda files: files.pop("index.json"))
    broken.write_bytes(archive.read_bytes())
    rewrite(broken, lambda files: files.update({"index.json": b"{"}))
    for path in (text, cut, other, broken, tmp_path / "none"):
        with pytest.raises(TargetError, match=f"{path}: not an OCI archive: ") as caught:
            read_it(path)
        assert caught.value.hint == "build it again"


def test_chain_ids_are_those_of_the_specification() -> None:
    one, two = "sha256:" + "1" * 64, "sha256:" + "2" * 64
    assert make_chains([]) == ()
    assert make_chains([one]) == (one,)
    assert make_chains([one, two]) == (one, digest(f"{one} {two}".encode()))


# Images of programs


class Zstd:
    """A toolbox whose zstd copies: what it was asked, and how often."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def run(self, argv: list[Any], **options: object) -> None:
        words = [str(word) for word in argv]
        self.asked.append(words)
        Path(words[words.index("-o") + 1]).write_bytes(b"zstd" + Path(words[words.index("-f") + 1]).read_bytes())


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    for name in ("kube", "pause", "coredns", "metrics-server"):
        (folder / name).write_text(f"{name}\n")
    return folder


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    (tmp_path / "stage").mkdir()
    return Workshop(tmp_path / "stage", {}, open_cache(tmp_path / "cache"), io.StringIO(), EPOCH)


def test_content_is_one_program_by_all_its_names(programs: Path) -> None:
    tree = make_content(programs / "kube", ("kube-proxy", "kube-apiserver"))
    assert [(path, node.kind, node.mode, node.target) for path, node in tree.walk()] == [
        ("/kube-apiserver", "file", 0o755, ""),
        ("/kube-proxy", "link", 0o777, "kube-apiserver"),
    ]


def test_images_of_one_program_share_their_layer(programs: Path, workshop: Workshop) -> None:
    toolbox = Zstd()
    specs = [(spec, "1.2") for spec in (PAUSE_IMAGE, *CLUSTER_IMAGES) if spec.program in ("pause", "kube")]
    images = pack_images(specs, programs, "arm64", workshop, toolbox)  # type: ignore[arg-type]
    assert [image.name for image in images][:2] == ["cumulet.dev/pause:1.2", "cumulet.dev/kube-apiserver:1.2"]
    assert len(toolbox.asked) == 2
    assert len({image.layers[0].blob.digest for image in images}) == 2
    assert len({image.manifest.digest for image in images}) == len(images) == 5
    assert {path.name for path in (workshop.folder / "blobs").iterdir()} == {
        image.layers[0].blob.digest.removeprefix("sha256:") for image in images
    }
    archive = workshop.folder / "images.tar"
    with archive.open("wb") as stream:
        write_archive(images, stream, EPOCH)
    assert verify_archive(archive) == []


def test_preloaded_images_name_layers_that_are_in_the_root(programs: Path, workshop: Workshop) -> None:
    specs = make_specs(("coredns",))
    assert [spec.name for spec in specs] == ["pause", "coredns"]
    images = pack_images([(spec, "1") for spec in specs], programs, "arm64", workshop, Zstd())  # type: ignore[arg-type]
    tree = make_preload_files([(image, spec.pinned) for image, spec in zip(images, specs, strict=True)], EPOCH)
    plan = json.loads(tree.read("/usr/share/cumulet/images/preload.json"))
    assert plan["epoch"] == EPOCH
    root = make_layers(images, specs, programs)
    for row, image in zip(plan["images"], images, strict=True):
        assert (row["name"], row["pinned"]) == (image.name, True)
        for blob in (image.manifest, image.config):
            assert tree.read(f"/usr/share/cumulet/images/blobs/{blob.digest.replace(':', '/')}") == blob.content
        (layer,) = row["layers"]
        assert (layer["path"], layer["chain"]) == (make_layer_folder(image.layers[0]), image.chains[0])
        name = image.name.removeprefix("cumulet.dev/").removesuffix(":1")
        assert root.read(f"{layer['path']}/{name}") == f"{name}\n".encode()


def test_images_are_listed_under_the_licence_of_their_program(programs: Path, workshop: Workshop) -> None:
    specs = [(spec, "1") for spec in (PAUSE_IMAGE, *ADDON_IMAGES)]
    images = pack_images(specs, programs, "arm64", workshop, Zstd())  # type: ignore[arg-type]
    licences = [Component("coredns", "1", "program", "MIT"), Component("coredns", "1", "go-module", "ISC")]
    rows = {row.name: (row.kind, row.licence, row.version) for row in make_image_components(images, licences)}
    assert rows["cumulet.dev/coredns"] == ("image", "MIT", "1")
    assert rows["cumulet.dev/pause"] == ("image", "Apache-2.0", "1")


def test_every_image_of_a_cluster_is_listed_once() -> None:
    specs: list[ImageSpec] = [PAUSE_IMAGE, *ADDON_IMAGES, *CLUSTER_IMAGES]
    assert len({spec.name for spec in specs}) == len(specs)
    assert all(spec.names[0] and len(set(spec.names)) == len(spec.names) for spec in specs)
