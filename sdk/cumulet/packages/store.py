"""A store: a folder with the index, its signatures, and blobs by digest. Any web server can show it."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from cumulet.core.errors import UsageError
from cumulet.core.files import locked, sync_tree, write_text, writing
from cumulet.packages.archive import (
    convert_docker_archive,
    digest_chunks,
    digest_unpacked,
    is_docker_archive,
    read_images,
)
from cumulet.packages.device.sources import INDEX, SIGNATURE
from cumulet.packages.device.tree import digest_file
from cumulet.packages.index import LARGEST_CHUNK, Image, Index, Kind, Package, make_index_text, parse_index
from cumulet.packages.signature import load_private, sign, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BLOBS = "blobs/sha256"


@dataclass(frozen=True)
class Label:
    """What a publisher says about a file: what it is called, what it is, and who it is for."""

    name: str
    version: str
    kind: Kind
    architecture: str = ""
    late: bool | None = None
    """None: models come late, everything else early."""
    chunk: int = LARGEST_CHUNK


def add_package(store: Path, file: Path, label: Label, key: Path) -> Package:
    """Put a file into a store and sign its index anew; a file that is there already changes nothing.

    Raises UsageError for a file that is no package, or a version that is another file already.
    """
    secret = load_private(key)
    if not file.is_file() or not file.stat().st_size:
        raise UsageError(f"{file}: {'is empty' if file.is_file() else 'no such file'}", hint="name the package's file")
    store.mkdir(parents=True, exist_ok=True)
    with locked(store / ".lock", f"store {store}"), tempfile.TemporaryDirectory(dir=store, prefix=".tmp-") as scratch:
        index = load_index(store, secret)
        ready = Path(scratch) / "package"
        if label.kind == "image" and is_docker_archive(file):
            convert_docker_archive(file, ready)
        else:
            shutil.copyfile(file, ready)
        package = describe_package(ready, label, Path(scratch))
        same = [each for each in index.packages if _slot(each) == _slot(package)]
        if same == [package]:
            return package
        if same and same[0].version == package.version:
            raise UsageError(
                f"{package.title}: is in the store already, with another content", hint="give it a new --version"
            )
        _publish_blob(store, ready, package)
        others = [each for each in index.packages if _slot(each) != _slot(package)]
        changed = Index(serial=index.serial + 1, packages=tuple(sorted([*others, package], key=_slot)))
        _publish_index(store, changed, secret)
        return package


def describe_package(file: Path, label: Label, scratch: Path) -> Package:
    """What the index says of a file. Raises UsageError or TargetError if it is not of the label's kind."""
    images: tuple[Image, ...] = ()
    tree, architecture = "", label.architecture
    if label.kind == "image":
        images, found = read_images(file)
        architecture = architecture or found
    sha256, chunks = digest_chunks(file, label.chunk)
    if label.kind == "files":
        tree = digest_unpacked(file, scratch)
    elif label.kind == "model":
        tree = sha256
    values = {
        "name": label.name,
        "version": label.version,
        "kind": label.kind,
        "architecture": architecture,
        "late": label.kind == "model" if label.late is None else label.late,
        "size": file.stat().st_size,
        "sha256": sha256,
        "tree": tree,
        "images": images,
        "chunk": label.chunk,
        "chunks": chunks,
    }
    try:
        return Package.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UsageError(
            f"{file}: {first['msg'].removeprefix('Value error, ')}", hint="cumulet package add --help"
        ) from error


def load_index(store: Path, key: Ed25519PrivateKey) -> Index:
    """The index of a store, an empty one if there is none. Raises TargetError if this key has not signed it."""
    path = store / INDEX
    if not path.exists():
        return Index()
    data = path.read_bytes()
    verify(data, (store / SIGNATURE).read_bytes(), key.public_key(), str(path))
    return parse_index(data, str(path))


def find_blob(store: Path, package: Package) -> Path:
    """The file of a package in a store."""
    return store / BLOBS / package.sha256


def _slot(package: Package) -> tuple[str, str]:
    return package.name, package.architecture


def _publish_blob(store: Path, ready: Path, package: Package) -> None:
    target = find_blob(store, package)
    if target.exists() and digest_file(target) == package.sha256:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with ready.open("rb") as source, writing(target) as stream:
        shutil.copyfileobj(source, stream, 1 << 20)
    sync_tree(target.parent)


def _publish_index(store: Path, index: Index, key: Ed25519PrivateKey) -> None:
    """Two files cannot change at once: for a moment the signatures are those of the old index and of the new one."""
    text = make_index_text(index)
    old = (store / INDEX).read_bytes() if (store / INDEX).exists() else None
    write_text(store / SIGNATURE, sign(text, key) + (sign(old, key) if old is not None else ""))
    with writing(store / INDEX) as stream:
        stream.write(text)
