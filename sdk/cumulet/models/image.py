"""A folder of files as an OCI image: one layer for every big file, one for all small ones, the same bytes every time.

Big files are never held in memory, and never written twice: what a layer's digest is, is found by reading its file
once before it is written.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from pydantic import ValidationError

from cumulet.core.errors import UsageError
from cumulet.core.files import writing
from cumulet.models.documents import (
    CARD,
    CARD_SIGNATURE,
    PREFIX,
    Card,
    ModelBlob,
    ModelFile,
    Release,
    make_text,
    sign_text,
)
from cumulet.packages import load_private

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

BIG = 1 << 20
"""A file of so many bytes has a layer of its own: only what has changed is sent again."""
CHUNK = 4 << 20
PIECE = 1 << 20
ARCHITECTURES = ("amd64", "arm64")
INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")


@dataclass(frozen=True, slots=True)
class Source:
    """A file that goes into a layer: from the disk, or from memory."""

    path: str
    size: int
    file: Path | None = None
    data: bytes = b""

    def read(self) -> Iterator[bytes]:
        """Its content, in pieces. Raises UsageError if somebody changes its length meanwhile."""
        if self.file is None:
            yield self.data
            return
        left = self.size
        with self.file.open("rb") as stream:
            while data := stream.read(min(PIECE, left)):
                left -= len(data)
                yield data
        if left:
            raise UsageError(f"{self.file}: has changed while it was read", hint="run the same command again")


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer's files in order, and what its bytes are."""

    sources: tuple[Source, ...]
    blob: ModelBlob


def build_model(folder: Path, target: Path, name: str, revision: str, key: Path) -> Release:
    """Write the files of `folder` as an image into the OCI archive `target`, signed.

    Beside it lie the release and its signature, `.release.json` and `.release.json.sig`. Raises UsageError.
    """
    secret = load_private(key)
    layers = make_layers(list_sources(folder, name, revision, secret))
    documents, index = make_documents(name, revision, layers)
    release = make_release(name, revision, layers, documents, index)
    with writing(target) as stream:
        write_archive(stream, release, layers, documents)
    text = make_text(release)
    for path, data in zip(release_paths(target), (text, sign_text(text, secret)), strict=True):
        with writing(path) as stream:
            stream.write(data)
    return release


def list_sources(folder: Path, name: str, revision: str, secret: Ed25519PrivateKey) -> list[Source]:
    """All files of a model in order, its signed card first. Raises UsageError."""
    files = list_files(folder)
    card = make_text(make_card(name, revision, [_describe_file(path, folder) for path in files]))
    first = [_make_source(CARD, card), _make_source(CARD_SIGNATURE, sign_text(card, secret))]
    return first + [Source(_inside(path, folder), path.stat().st_size, path) for path in files]


def release_paths(archive: Path) -> tuple[Path, Path]:
    """Where the release of an archive lies, and its signature."""
    return archive.with_name(f"{archive.name}.release.json"), archive.with_name(f"{archive.name}.release.json.sig")


def make_card(name: str, revision: str, files: Sequence[ModelFile]) -> Card:
    """The card of a model. Raises UsageError for a name or version that is none."""
    try:
        return Card(model=name, revision=revision, files=tuple(files))
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(message, hint="cumulet model build --help") from error


def list_files(folder: Path) -> list[Path]:
    """The files of a model, in order. Raises UsageError for what is no file, and for a folder of nothing."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder", hint="name the folder with the model's files")
    found = sorted(path for path in folder.rglob("*") if not path.is_dir() or path.is_symlink())
    for path in found:
        if path.is_symlink() or not path.is_file():
            raise UsageError(f"{path}: a model has files only, no links", hint="put the file itself there")
        if path.name in (CARD, CARD_SIGNATURE):
            raise UsageError(f"{path}: is made by cumulet itself", hint="build from the folder with the original files")
    if not found:
        raise UsageError(f"{folder}: has no files", hint="name the folder with the model's files")
    return found


def make_layers(sources: Sequence[Source], *, together: bool = False) -> list[Layer]:
    """One layer for the small ones, first; one for every big one. `together`: one for all of them."""
    small = [source for source in sources if source.size < BIG or together]
    groups = [tuple(small), *((source,) for source in sources if source not in small)]
    return [Layer(group, digest_stream(read_layer(group))) for group in groups]


def read_layer(sources: Iterable[Source]) -> Iterator[bytes]:
    """The bytes of a layer: an uncompressed tar archive with no owners and no times. Weights do not get smaller."""
    total = 0
    folders: set[str] = set()
    for source in sources:
        for parent in reversed(Path(source.path).parents):
            if parent.as_posix() not in (".", *folders):
                folders.add(parent.as_posix())
                yield (head := _make_head(parent.as_posix(), 0, 0o755, tarfile.DIRTYPE))
                total += len(head)
        yield (head := _make_head(source.path, source.size, 0o644, tarfile.REGTYPE))
        yield from source.read()
        padding = -source.size % tarfile.BLOCKSIZE
        yield bytes(padding)
        total += len(head) + source.size + padding
    yield bytes(tarfile.RECORDSIZE - total % tarfile.RECORDSIZE if total % tarfile.RECORDSIZE else 0)
    yield bytes(tarfile.RECORDSIZE)


def digest_stream(pieces: Iterable[bytes]) -> ModelBlob:
    """SHA-256 of some bytes, and of each chunk of them."""
    whole, chunk, left, size = hashlib.sha256(), hashlib.sha256(), CHUNK, 0
    chunks = []
    for piece in pieces:
        view = memoryview(piece)
        whole.update(view)
        size += len(view)
        while view:
            part = view[:left]
            chunk.update(part)
            left -= len(part)
            view = view[len(part) :]
            if not left:
                chunks.append(chunk.hexdigest())
                chunk, left = hashlib.sha256(), CHUNK
    if left < CHUNK:
        chunks.append(chunk.hexdigest())
    return ModelBlob(sha256=whole.hexdigest(), size=size, chunk=CHUNK, chunks=tuple(chunks))


def make_documents(name: str, revision: str, layers: Sequence[Layer]) -> tuple[list[bytes], bytes]:
    """Configs and manifests for every architecture, the index last; and the index. Only the configs differ."""
    documents: list[bytes] = []
    manifests = []
    labels = {"org.opencontainers.image.title": name, "org.opencontainers.image.version": revision}
    for architecture in ARCHITECTURES:
        config = _make_json(
            {
                "architecture": architecture,
                "os": "linux",
                "config": {"Labels": labels},
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.blob.sha256}" for layer in layers]},
            }
        )
        manifest = _make_json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": describe(CONFIG, config),
                "layers": [
                    {"mediaType": LAYER, "digest": f"sha256:{each.blob.sha256}", "size": each.blob.size}
                    for each in layers
                ],
            }
        )
        documents += [config, manifest]
        manifests.append({**describe(MANIFEST, manifest), "platform": {"architecture": architecture, "os": "linux"}})
    index = _make_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})
    return [*documents, index], index


def make_release(
    name: str, revision: str, layers: Sequence[Layer], documents: Sequence[bytes], index: bytes
) -> Release:
    """The release of an image: every blob of it, layers first."""
    blobs = [layer.blob for layer in layers] + [digest_stream([data]) for data in documents]
    digest = f"sha256:{hashlib.sha256(index).hexdigest()}"
    return Release(model=name, revision=revision, digest=digest, blobs=tuple(blobs))


def write_archive(stream: IO[bytes], release: Release, layers: Sequence[Layer], documents: Sequence[bytes]) -> None:
    """The image as an OCI archive, under its digest and its version."""
    blobs: list[tuple[ModelBlob, Iterable[bytes]]] = [(layer.blob, read_layer(layer.sources)) for layer in layers]
    blobs += [(digest_stream([data]), [data]) for data in documents]
    write_blobs(stream, release, blobs)


def write_blobs(stream: IO[bytes], release: Release, blobs: Iterable[tuple[ModelBlob, Iterable[bytes]]]) -> None:
    """An OCI archive of blobs that are given as they are written."""
    index_size = release.blobs[-1].size
    _write_file(stream, "oci-layout", [b'{"imageLayoutVersion":"1.0.0"}'], 30)
    names = (release.reference, f"{PREFIX}{release.model}:{release.revision}")
    descriptor = {"mediaType": INDEX, "digest": release.digest, "size": index_size}
    manifests = [{**descriptor, "annotations": dict.fromkeys(NAME_KEYS, name)} for name in names]
    top = _make_json({"schemaVersion": 2, "manifests": manifests})
    _write_file(stream, "index.json", [top], len(top))
    for blob, pieces in blobs:
        _write_file(stream, f"blobs/sha256/{blob.sha256}", pieces, blob.size)
    stream.write(bytes(tarfile.BLOCKSIZE * 2))


def describe(media_type: str, data: bytes) -> dict[str, Any]:
    """A descriptor of a small document."""
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _write_file(stream: IO[bytes], name: str, pieces: Iterable[bytes], size: int) -> None:
    stream.write(_make_head(name, size, 0o644, tarfile.REGTYPE))
    written = 0
    for piece in pieces:
        stream.write(piece)
        written += len(piece)
    if written != size:
        raise UsageError(f"{name}: {written} bytes instead of {size}", hint="run the same command again")
    stream.write(bytes(-size % tarfile.BLOCKSIZE))


def _make_head(path: str, size: int, mode: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(path)
    info.size, info.mode, info.type = size, mode, kind
    return info.tobuf(tarfile.PAX_FORMAT)


def _make_source(path: str, data: bytes) -> Source:
    return Source(path, len(data), data=data)


def _describe_file(path: Path, folder: Path) -> ModelFile:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return ModelFile(path=_inside(path, folder), sha256=digest, size=path.stat().st_size)


def _inside(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _make_json(values: object) -> bytes:
    return json.dumps(values, sort_keys=True, separators=(",", ":")).encode()
