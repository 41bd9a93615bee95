"""A store brought into an OCI registry: one artifact under a tag, its layers are the index and the blobs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib.parse import urljoin

from cumulet.core.errors import ToolError, UsageError
from cumulet.packages.device.client import BrokenError, Client, RefusedError
from cumulet.packages.device.sources import (
    INDEX,
    INDEX_TYPE,
    MANIFEST_TYPE,
    SIGNATURE,
    SIGNATURE_TYPE,
    RegistryPlace,
    check_source,
    parse_registry,
)
from cumulet.packages.index import parse_index
from cumulet.packages.signature import load_public, verify
from cumulet.packages.store import find_blob

PACKAGE_TYPE = "application/vnd.cumulet.package.v1"
ARTIFACT_TYPE = "application/vnd.cumulet.packages.v1"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"


def push_store(store: Path, target: str, public: Path, login: str, tell: Callable[[str], None]) -> int:
    """Bring a store's packages to `oci://registry/repository[:tag]`; what is there is not sent again.

    Returns how many blobs were sent. Raises UsageError for a bad target, TargetError for an index that the key has
    not signed, ToolError for a registry that does not take them.
    """
    try:
        place = parse_registry(check_source(target))
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        index, signature = ((store / name).read_bytes() for name in (INDEX, SIGNATURE))
    except OSError as error:
        raise UsageError(f"{store}: is no store of packages", hint="cumulet package add") from error
    verify(index, signature, load_public(public), str(store))
    packages = parse_index(index, str(store)).packages
    client = Client(login, 60.0)
    try:
        layers = [_describe(INDEX_TYPE, index), _describe(SIGNATURE_TYPE, signature)]
        sent = sum(send_bytes(client, place, data) for data in (EMPTY, index, signature))
        for package in packages:
            path = find_blob(store, package)
            digest = f"sha256:{package.sha256}"
            title = {"org.opencontainers.image.title": package.title}
            layers.append({"mediaType": PACKAGE_TYPE, "digest": digest, "size": package.size, "annotations": title})
            with path.open("rb") as stream:
                if send_blob(client, place, digest, package.size, stream):
                    tell(package.title)
                    sent += 1
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _describe(EMPTY_TYPE, EMPTY),
            "layers": layers,
        }
        text = json.dumps(manifest, indent=1).encode()
        client.ask("PUT", f"{place.url}/manifests/{place.tag}", {"Content-Type": MANIFEST_TYPE}, text).close()
    except (BrokenError, RefusedError) as error:
        raise ToolError(f"{target}: does not take the packages: {error.message}", hint="--login FILE?") from error
    return sent


def _describe(media_type: str, data: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "size": len(data)}


def send_bytes(client: Client, place: RegistryPlace, data: bytes) -> bool:
    """Send a small blob unless it is there; whether it was sent."""
    return send_blob(client, place, f"sha256:{hashlib.sha256(data).hexdigest()}", len(data), data)


def send_blob(client: Client, place: RegistryPlace, digest: str, size: int, body: bytes | IO[bytes]) -> bool:
    """Send a blob unless it is there; whether it was sent."""
    try:
        client.ask("HEAD", f"{place.url}/blobs/{digest}").close()
    except RefusedError as error:
        if error.status != 404:
            raise
    else:
        return False
    begun = client.ask("POST", f"{place.url}/blobs/uploads/", {"Content-Length": "0"})
    begun.close()
    where = urljoin(f"{place.url}/blobs/uploads/", begun.headers.get("Location", ""))
    joint = "&" if "?" in where else "?"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size)}
    client.ask("PUT", f"{where}{joint}digest={digest}", headers, body).close()
    return True
