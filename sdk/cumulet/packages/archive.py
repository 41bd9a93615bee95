"""What a file is as a package: its chunks, the digest of what comes out of it, the images that it holds."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cumulet.core.errors import UsageError
from cumulet.packages.device.tree import digest_tree, unpack
from cumulet.packages.index import Image

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
NAME_KEYS = ("io.containerd.image.name", "org.opencontainers.image.ref.name")
ARCHITECTURES = ("arm64", "amd64")


def digest_chunks(path: Path, chunk: int) -> tuple[str, list[str]]:
    """SHA-256 of a file, and of each of its chunks."""
    whole, chunks = hashlib.sha256(), []
    with path.open("rb") as stream:
        while data := stream.read(chunk):
            whole.update(data)
            chunks.append(hashlib.sha256(data).hexdigest())
    return whole.hexdigest(), chunks


def digest_unpacked(path: Path, scratch: Path) -> str:
    """The digest of the tree that a tar archive becomes, found by unpacking it. Raises TargetError."""
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".tmp-") as folder:
        unpack(path, Path(folder) / "tree")
        return digest_tree(Path(folder) / "tree")


def read_images(path: Path) -> tuple[tuple[Image, ...], str]:
    """The images of an OCI archive, and the architecture that all of them are for if there is one.

    Raises UsageError if it is none, or if one of its images has no full name.
    """
    with _opened(path) as archive:
        manifests = json.loads(_read(archive, "index.json"))["manifests"]
        found = []
        architectures = set()
        for each in manifests:
            name = next(
                (each.get("annotations", {})[key] for key in NAME_KEYS if key in each.get("annotations", {})), ""
            )
            if "/" not in name or ":" not in name.rpartition("/")[2]:
                raise UsageError(
                    f"{path}: an image has no full name, but {name!r}",
                    hint="skopeo copy ... oci-archive:FILE:registry.example/name:tag",
                )
            found.append(Image(name=name, digest=each["digest"]))
            architectures.add(_find_architecture(archive, each))
    only = architectures.pop() if len(architectures) == 1 else ""
    return tuple(found), only if only in ARCHITECTURES else ""


def _find_architecture(archive: tarfile.TarFile, descriptor: Mapping[str, Any]) -> str:
    if descriptor["mediaType"] != MANIFEST:
        return ""
    manifest = json.loads(_read_blob(archive, descriptor["digest"]))
    return str(json.loads(_read_blob(archive, manifest["config"]["digest"])).get("architecture", ""))


def is_docker_archive(path: Path) -> bool:
    """Whether a file is what older `docker save` writes: a manifest.json, and no OCI layout."""
    with _opened(path) as archive:
        names = set(archive.getnames())
    return "manifest.json" in names and "index.json" not in names


def convert_docker_archive(path: Path, target: Path) -> None:
    """Write a docker archive as OCI archive, so that every image has a digest before a device has seen it."""
    with _opened(path) as source, tarfile.open(target, "w:", format=tarfile.PAX_FORMAT) as made:
        written: set[str] = set()
        manifests = []
        for image in json.loads(_read(source, "manifest.json")):
            config = _read(source, image["Config"])
            layers = [_copy_layer(source, name, made, written) for name in image["Layers"]]
            document = {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": _describe(CONFIG, config),
                "layers": layers,
            }
            manifest = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
            for data in (config, manifest):
                _write_blob(made, data, written)
            for name in image["RepoTags"] or ():
                manifests.append({**_describe(MANIFEST, manifest), "annotations": dict.fromkeys(NAME_KEYS, name)})
        _write(made, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _write(made, "index.json", json.dumps({"schemaVersion": 2, "manifests": manifests}, sort_keys=True).encode())


def _copy_layer(source: tarfile.TarFile, name: str, made: tarfile.TarFile, written: set[str]) -> dict[str, Any]:
    member = source.getmember(name)
    while member.issym():
        member = source.getmember(posixpath.normpath(posixpath.join(posixpath.dirname(member.name), member.linkname)))
    digest = hashlib.sha256()
    with _stream(source, member) as stream:
        packed = stream.read(2) == gzip.compress(b"")[:2]
        stream.seek(0)
        while data := stream.read(1 << 20):
            digest.update(data)
        found = f"sha256:{digest.hexdigest()}"
        if found not in written:
            stream.seek(0)
            info = tarfile.TarInfo(f"blobs/{found.replace(':', '/')}")
            info.size, info.mode = member.size, 0o644
            made.addfile(info, stream)
            written.add(found)
    return {"mediaType": f"{LAYER}+gzip" if packed else LAYER, "digest": found, "size": member.size}


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def _write_blob(made: tarfile.TarFile, data: bytes, written: set[str]) -> None:
    digest = hashlib.sha256(data).hexdigest()
    if f"sha256:{digest}" not in written:
        _write(made, f"blobs/sha256/{digest}", data)
        written.add(f"sha256:{digest}")


def _write(made: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o644
    made.addfile(info, io.BytesIO(data))


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except (OSError, tarfile.TarError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: no archive of images: {error}", hint="skopeo copy ... oci-archive:FILE") from error


def _read(archive: tarfile.TarFile, name: str) -> bytes:
    with _stream(archive, archive.getmember(name)) as stream:
        return stream.read()


def _read_blob(archive: tarfile.TarFile, digest: str) -> bytes:
    return _read(archive, f"blobs/{digest.replace(':', '/')}")


def _stream(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(member)
    if stream is None:
        raise KeyError(f"{member.name} is no file")
    return stream
