"""OCI images as values, and archives of them: index.json layout, content-addressed, the same bytes every time.

A layer that several images share is stored once. Image names are annotations,
in the form that `ctr images import` reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cumulet.core.errors import TargetError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
CHUNK = 1 << 20


@dataclass(frozen=True)
class Blob:
    """A content-addressed piece: its text, or the file that holds it."""

    digest: str
    size: int
    media_type: str
    content: bytes | Path

    def describe(self) -> dict[str, Any]:
        """The descriptor by which others refer to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


@dataclass(frozen=True)
class Layer:
    """A layer as it is stored, and the digest of its tar archive before compression."""

    blob: Blob
    diff_id: str


@dataclass(frozen=True)
class Image:
    """An image: its name, manifest, config and layers."""

    name: str
    manifest: Blob
    config: Blob
    layers: tuple[Layer, ...]

    @property
    def chains(self) -> tuple[str, ...]:
        """The chain id up to each layer, as containerd names unpacked layers."""
        return make_chains([layer.diff_id for layer in self.layers])


def make_chains(diff_ids: Sequence[str]) -> tuple[str, ...]:
    """Chain ids as the image specification defines them."""
    chains: list[str] = []
    for diff_id in diff_ids:
        text = f"{chains[-1]} {diff_id}" if chains else ""
        chains.append(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}" if chains else diff_id)
    return tuple(chains)


def make_layer(tar: Path, stored: Path, compression: str) -> Layer:
    """A layer of a tar archive and the file it is stored as; `compression` is `zstd`, `gzip` or empty."""
    media_type = f"{LAYER}+{compression}" if compression else LAYER
    blob = Blob(f"sha256:{_digest(stored)}", stored.stat().st_size, media_type, stored)
    return Layer(blob, f"sha256:{_digest(tar)}")


def make_image(name: str, layers: Sequence[Layer], architecture: str, settings: Mapping[str, Any]) -> Image:
    """An image. `settings` is the `config` part of its config, as {"Entrypoint": [...]}."""
    config = _make_blob(
        CONFIG,
        {
            "architecture": architecture,
            "os": "linux",
            "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
        },
    )
    manifest = _make_blob(
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.describe(),
            "layers": [layer.blob.describe() for layer in layers],
        },
    )
    return Image(name, manifest, config, tuple(layers))


def write_archive(images: Iterable[Image], stream: IO[bytes], epoch: int) -> None:
    """Write images as one OCI archive (a tar of the OCI layout)."""
    wanted = sorted(images, key=lambda image: image.name)
    index = {
        "schemaVersion": 2,
        "mediaType": INDEX,
        "manifests": [
            image.manifest.describe() | {"annotations": dict.fromkeys(NAME_KEYS, image.name)} for image in wanted
        ],
    }
    blobs = {
        blob.digest: blob
        for image in wanted
        for blob in (image.manifest, image.config, *(layer.blob for layer in image.layers))
    }
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, "oci-layout", _dump({"imageLayoutVersion": "1.0.0"}), epoch)
        _add(archive, "index.json", _dump(index), epoch)
        for digest, blob in sorted(blobs.items()):
            _add(archive, f"blobs/{digest.replace(':', '/')}", blob.content, epoch)


def list_images(path: Path) -> dict[str, str]:
    """Image name -> manifest digest of an archive. Raises TargetError if it is no OCI archive."""
    with _opened(path) as archive:
        index = json.loads(_read(archive, "index.json"))
        return {each["annotations"][NAME_KEYS[0]]: each["digest"] for each in index["manifests"]}


def verify_archive(path: Path) -> list[str]:
    """What is wrong with an archive: blobs with another content, size or missing; nothing if all is well.

    Raises TargetError if it is no OCI archive.
    """
    found: list[str] = []
    with _opened(path) as archive:
        sizes: dict[str, int | None] = {}
        for member in archive:
            if not member.name.startswith("blobs/") or not member.isfile():
                continue
            digest = member.name.removeprefix("blobs/").replace("/", ":")
            source = archive.extractfile(member)
            same = source and f"sha256:{hashlib.file_digest(source, 'sha256').hexdigest()}" == digest  # type: ignore[arg-type]
            sizes[digest] = member.size if same else None
            found += [] if same else [f"{digest}: another content"]
        index = json.loads(_read(archive, "index.json"))
        for each in index["manifests"]:
            found += _missing(each, archive, sizes)
    return list(dict.fromkeys(found))


def _missing(descriptor: Mapping[str, Any], archive: tarfile.TarFile, sizes: Mapping[str, int | None]) -> list[str]:
    """What a descriptor and what it names lack; `sizes` has None for blobs that are wrong and not worth reading."""
    digest = descriptor["digest"]
    if digest in sizes and sizes[digest] is None:
        return []
    if sizes.get(digest) != descriptor["size"]:
        return [f"{digest}: missing, or not of {descriptor['size']} bytes"]
    if descriptor["mediaType"] != MANIFEST:
        return []
    manifest = json.loads(_read(archive, f"blobs/{digest.replace(':', '/')}"))
    return [problem for each in (manifest["config"], *manifest["layers"]) for problem in _missing(each, archive, sizes)]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """The archive; whatever cannot be read in it while it is open is a TargetError."""
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{path}: not an OCI archive: {error}", hint="build it again") from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    source = archive.extractfile(name)
    return source.read() if source else b""


def _make_blob(media_type: str, document: Mapping[str, Any]) -> Blob:
    text = _dump(document)
    return Blob(f"sha256:{hashlib.sha256(text).hexdigest()}", len(text), media_type, text)


def _dump(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode()


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path, epoch: int) -> None:
    info = tarfile.TarInfo(name)
    info.mtime, info.mode = epoch, 0o644
    if isinstance(content, bytes):
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
        return
    info.size = content.stat().st_size
    with content.open("rb") as source:
        archive.addfile(info, source)
