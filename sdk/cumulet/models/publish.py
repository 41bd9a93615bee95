"""A model put into the store of a site's packages, in the way that suits its size: `site up` does the rest."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.files import writing
from cumulet.models.documents import Release, make_text, sign_text
from cumulet.models.image import build_model, list_files, list_sources, make_layers, read_layer, release_paths
from cumulet.models.way import Way
from cumulet.packages import Kind, Label, add_package, load_private

FOLDER = "models"
"""Where releases lie in a store: beside the packages, for whoever switches tasks to them."""


@dataclass(frozen=True, slots=True)
class Published:
    """A model in a store: its release, and the file that `model roll` takes."""

    release: Release
    path: Path


def find_size(folder: Path) -> int:
    """Bytes of all files of a model. Raises UsageError for what is no model."""
    return sum(path.stat().st_size for path in list_files(folder))


def publish_model(folder: Path, store: Path, label: Label, key: Path, way: Way) -> Published:
    """Build a model and put it into a store of packages, with its release. Raises UsageError."""
    target = store / FOLDER / f"{label.name}-{label.version}"
    store.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=store, prefix=".tmp-model-") as scratch:
        archive = Path(scratch) / "model"
        if way == "image":
            release = build_model(folder, archive, label.name, label.version, key)
        else:
            release = build_for_store(folder, archive, label, key)
        kind: Kind = "image" if way == "image" else "files"
        add_package(store, archive, Label(label.name, label.version, kind, late=True), key)
        for source, copy in zip(release_paths(archive), release_paths(target), strict=True):
            with writing(copy) as stream:
                stream.write(source.read_bytes())
    return Published(release, release_paths(target)[0])


def build_for_store(folder: Path, archive: Path, label: Label, key: Path) -> Release:
    """The files of a model as one tar archive, which is unpacked on devices; its release beside it."""
    secret = load_private(key)
    sources = list_sources(folder, label.name, label.version, secret)
    with writing(archive) as stream:
        for piece in read_layer(sources):
            stream.write(piece)
    blob = make_layers(sources, together=True)[0].blob
    digest = f"sha256:{blob.sha256}"
    release = Release(model=label.name, revision=label.version, way="store", digest=digest, blobs=(blob,))
    text = make_text(release)
    for path, data in zip(release_paths(archive), (text, sign_text(text, secret)), strict=True):
        with writing(path) as stream:
            stream.write(data)
    return release
