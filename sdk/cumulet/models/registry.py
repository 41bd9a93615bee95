"""Models in an OCI registry: pushed with their release beside them, pulled by digest; a pull goes on where it ended."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet.core.files import locked, writing
from cumulet.models.check import check_archive
from cumulet.models.documents import ModelBlob, Release, read_signed
from cumulet.models.image import INDEX, MANIFEST, describe, release_paths, write_blobs
from cumulet.packages import (
    BrokenError,
    Client,
    Effort,
    Part,
    RefusedError,
    Registry,
    RegistryPlace,
    check_source,
    load_public,
    parse_registry,
    pull,
    send_blob,
    send_bytes,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

RELEASE = "application/vnd.cumulet.model.release.v1+json"
SIGNATURE = "application/vnd.cumulet.model.signature.v1+text"
ARTIFACT = "application/vnd.cumulet.model.v1"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
PIECE = 1 << 20
SECONDS = 60.0
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Address:
    """`oci://REGISTRY/REPOSITORY` and what of it: a digest, or a tag."""

    place: RegistryPlace
    source: str
    digest: str
    text: str


def parse_address(text: str) -> Address:
    """The address of a model: `oci://HOST/REPOSITORY@sha256:...`, or with a tag. Raises UsageError."""
    base, _, digest = text.partition("@")
    try:
        place = parse_registry(check_source(base))
    except ValueError as error:
        raise UsageError(str(error)) from None
    if digest and not (
        digest.startswith("sha256:") and len(digest) == 71 and set(digest[7:]) <= set("0123456789abcdef")
    ):
        raise UsageError(f"{text!r}: {digest!r} is not a digest", hint="write it like @sha256:...")
    return Address(place, base, digest, text)


def push_model(archive: Path, target: str, key: Path, login: str, tell: Tell) -> Release:
    """Bring an archive to a registry, under its version and its digest; what is there is not sent again.

    Raises TargetError for one that the key has not signed, ToolError for a registry that does not take it.
    """
    address = parse_address(target)
    release = check_archive(archive, key)
    text, signature = (path.read_bytes() for path in release_paths(archive))
    client = Client(login, SECONDS)
    try:
        sent = sum(_send_blobs(client, address.place, archive, release, tell))
        documents = _read_documents(archive, release)
        for data in documents:
            kind = json.loads(data)["mediaType"]
            _put(client, address.place, f"sha256:{hashlib.sha256(data).hexdigest()}", kind, data)
        _put(client, address.place, release.revision, INDEX, documents[-1])
        for data in (EMPTY, text, signature):
            sent += send_bytes(client, address.place, data)
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "artifactType": ARTIFACT,
            "config": describe(EMPTY_TYPE, EMPTY),
            "layers": [describe(RELEASE, text), describe(SIGNATURE, signature)],
            "subject": {"mediaType": INDEX, "digest": release.digest, "size": release.blobs[-1].size},
        }
        _put(client, address.place, _release_tag(release.digest), MANIFEST, json.dumps(manifest).encode())
    except (BrokenError, RefusedError) as error:
        raise ToolError(f"{target}: does not take the model: {error.message}", hint="--login FILE?") from error
    tell(f"{sent} blobs sent")
    return release


def pull_model(source: str, archive: Path, key: Path, login: str, tell: Tell) -> Release:
    """Fetch a model into an OCI archive, with its release beside it. Cut off, the same call goes on where it was.

    Every chunk is checked as it comes, against a release whose signature has been checked. Raises TargetError.
    """
    address = parse_address(source)
    client = Client(login, SECONDS)
    release, text, signature = fetch_release(client, address, load_public(key))
    folder = archive.with_name(f".{archive.name}.parts")
    with locked(archive.with_name(f".{archive.name}.lock"), f"{archive}"):
        registry = Registry(address.source, client)
        for number, blob in enumerate(release.blobs, 1):
            _fetch_blob(folder, blob, registry, f"{release.title}: {number} of {len(release.blobs)}", tell)
        with writing(archive) as stream:
            write_blobs(stream, release, ((blob, _read(folder / blob.sha256)) for blob in release.blobs))
        for path, data in zip(release_paths(archive), (text, signature), strict=True):
            with writing(path) as stream:
                stream.write(data)
        check_archive(archive, key)
        shutil.rmtree(folder)
    return release


def fetch_release(client: Client, address: Address, key: Ed25519PublicKey) -> tuple[Release, bytes, bytes]:
    """The release of an address, its text and signature. Raises TargetError for one that is not the address's."""
    try:
        digest = address.digest or _find_digest(client, address)
        manifest = json.loads(
            client.read(f"{address.place.url}/manifests/{_release_tag(digest)}", {"Accept": MANIFEST})
        )
        layers = {each["mediaType"]: each["digest"] for each in manifest["layers"]}
        text, signature = (client.read(f"{address.place.url}/blobs/{layers[kind]}") for kind in (RELEASE, SIGNATURE))
    except RefusedError as error:
        raise TargetError(f"{address.text}: has no signed model: {error.message}", hint="cumulet model push") from error
    except (ValueError, KeyError, TypeError) as error:
        raise TargetError(f"{address.text}: is no model: {error}", hint="cumulet model push") from error
    release = read_signed(Release, text, signature, key, address.text)
    if release.digest != digest:
        raise TargetError(f"{address.text}: the release is of {release.digest}", hint="somebody has moved it there")
    return release, text, signature


def _find_digest(client: Client, address: Address) -> str:
    index = client.read(f"{address.place.url}/manifests/{address.place.tag}", {"Accept": INDEX})
    return f"sha256:{hashlib.sha256(index).hexdigest()}"


def _fetch_blob(folder: Path, blob: ModelBlob, registry: Registry, title: str, tell: Tell) -> None:
    if (folder / blob.sha256).exists():
        # What has its final name was whole and right when it got it; the archive is checked once more.
        return
    part = Part(folder, blob.as_blob(title))
    try:
        pull(part, [registry], Effort(), lambda part: tell(f"{title}: {part.length} of {blob.size} bytes"))
        part.publish()
    finally:
        part.close()


def _send_blobs(client: Client, place: RegistryPlace, archive: Path, release: Release, tell: Tell) -> Iterator[bool]:
    """Layers and configs; manifests go another way."""
    sizes = {blob.sha256: blob.size for blob in release.blobs}
    with tarfile.open(archive, "r:") as members:
        for member in members:
            digest = member.name.rpartition("/")[2]
            stream = members.extractfile(member) if digest in sizes else None
            if stream is None:
                continue
            with stream:
                sent = send_blob(client, place, f"sha256:{digest}", sizes[digest], stream)
            if sent:
                tell(f"{release.title}: {sizes[digest]} bytes")
            yield sent


def _read_documents(archive: Path, release: Release) -> list[bytes]:
    """The manifests, and the index last."""
    found = []
    with tarfile.open(archive, "r:") as members:
        for blob in release.blobs[-5:]:
            stream = members.extractfile(f"blobs/sha256/{blob.sha256}")
            data = stream.read() if stream is not None else b"{}"
            if "mediaType" in json.loads(data):
                found.append(data)
    return found


def _put(client: Client, place: RegistryPlace, name: str, kind: str, data: bytes) -> None:
    client.ask("PUT", f"{place.url}/manifests/{name}", {"Content-Type": kind}, data).close()


def _read(path: Path) -> Iterable[bytes]:
    with path.open("rb") as stream:
        while data := stream.read(PIECE):
            yield data


def _release_tag(digest: str) -> str:
    return f"release-{digest.removeprefix('sha256:')}"
