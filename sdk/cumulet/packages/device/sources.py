"""Where packages come from: a folder behind HTTPS, an OCI registry, another device. One protocol."""

from __future__ import annotations

import http.client
import ipaddress
import json
import re
from collections.abc import Iterator
from typing import Protocol
from urllib.parse import urlsplit

from cumulet.core.errors import TargetError, UsageError
from cumulet.packages.device.client import BrokenError, Client, RefusedError, describe

PIECE = 1 << 16
INDEX, SIGNATURE = "index.json", "index.json.sig"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.cumulet.packages.index.v1+json"
SIGNATURE_TYPE = "application/vnd.cumulet.packages.signature.v1+text"
TAG = "packages"


class Source(Protocol):
    """Something that packages can be read from."""

    name: str

    def read_index(self) -> tuple[bytes, bytes]:
        """The index and its signatures, neither of them checked. Raises BrokenError or RefusedError."""

    def read_blob(self, sha256: str, start: int) -> Iterator[bytes]:
        """The bytes of a blob from `start` on, as they come. Raises BrokenError or RefusedError."""


class Store:
    """A folder behind a web server: index.json, index.json.sig, blobs/sha256/..."""

    def __init__(self, url: str, client: Client) -> None:
        self.url, self.client = url.rstrip("/"), client
        self.name = self.url

    def read_index(self) -> tuple[bytes, bytes]:
        """See Source."""
        # The signature second: a publisher writes it first, with the lines of both indexes.
        index = self.client.read(f"{self.url}/{INDEX}")
        return index, self.client.read(f"{self.url}/{SIGNATURE}")

    def read_blob(self, sha256: str, start: int) -> Iterator[bytes]:
        """See Source."""
        return read_range(self.client, f"{self.url}/blobs/sha256/{sha256}", start)


class Registry:
    """A repository of an OCI registry; index and blobs are layers of one artifact under a tag."""

    def __init__(self, url: str, client: Client) -> None:
        self.place, self.client = parse_registry(url), client
        self.name = url

    def read_index(self) -> tuple[bytes, bytes]:
        """See Source."""
        manifest = self.client.read(f"{self.place.url}/manifests/{self.place.tag}", {"Accept": MANIFEST_TYPE})
        try:
            layers = {each["mediaType"]: each["digest"] for each in json.loads(manifest)["layers"]}
            wanted = [layers[INDEX_TYPE], layers[SIGNATURE_TYPE]]
        except (ValueError, KeyError, TypeError):
            raise TargetError(f"{self.name}: has no packages under this tag", hint="cumulet package push") from None
        index, signature = (self.client.read(f"{self.place.url}/blobs/{digest}") for digest in wanted)
        return index, signature

    def read_blob(self, sha256: str, start: int) -> Iterator[bytes]:
        """See Source."""
        return read_range(self.client, f"{self.place.url}/blobs/sha256:{sha256}", start)


class Peer:
    """Another device of the site, while packages are handed on."""

    def __init__(self, url: str, client: Client) -> None:
        self.url, self.client = url.rstrip("/"), client
        # The path has this run's secret.
        self.name = urlsplit(url).netloc

    def read_index(self) -> tuple[bytes, bytes]:
        """A device hands on nothing but what the index names."""
        raise RefusedError(f"{self.name}: a device has no index", 404)

    def read_blob(self, sha256: str, start: int) -> Iterator[bytes]:
        """See Source."""
        return read_range(self.client, f"{self.url}/{sha256}", start)


KINDS: dict[str, type[Store] | type[Registry] | type[Peer]] = {
    "https": Store,
    "http": Store,
    "oci": Registry,
    "oci+http": Registry,
    "peer": Peer,
}


def open_source(url: str, client: Client) -> Source:
    """The source of an address that `check_source` has let pass, or of `peer://HOST:PORT/SECRET`."""
    scheme = url.partition("://")[0]
    return KINDS[scheme](url.replace("peer://", "http://"), client)


def check_source(url: str) -> str:
    """The address itself if packages can be read from there. Raises ValueError that says what is wrong with it."""
    parts = urlsplit(url)
    if parts.scheme not in KINDS or parts.scheme == "peer" or not parts.hostname:
        raise ValueError(f"{url!r} is no place of packages; write https://HOST/FOLDER or oci://HOST/REPOSITORY")
    if parts.scheme in ("http", "oci+http") and not _is_near(parts.hostname):
        raise ValueError(f"{url!r}: without TLS only from an address in one's own network")
    if parts.scheme.startswith("oci"):
        try:
            parse_registry(url)
        except UsageError as error:
            raise ValueError(error.message) from None
    return url


def _is_near(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"


class RegistryPlace:
    """A repository's address in the registry's protocol, and the tag."""

    def __init__(self, url: str, tag: str) -> None:
        self.url, self.tag = url, tag


def parse_registry(url: str) -> RegistryPlace:
    """The place in `oci://host[:port]/repository[:tag]`. Raises UsageError."""
    parts = urlsplit(url)
    match = re.fullmatch(r"/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)(?::([\w][\w.-]{0,127}))?", parts.path)
    if not parts.netloc or not match:
        raise UsageError(f"{url!r} is no repository", hint="write it like oci://registry.example/edge/packages")
    scheme = "http" if parts.scheme == "oci+http" else "https"
    return RegistryPlace(f"{scheme}://{parts.netloc}/v2/{match[1]}", match[2] or TAG)


def read_range(client: Client, url: str, start: int) -> Iterator[bytes]:
    """The bytes behind an address from `start` on. Raises BrokenError or RefusedError."""
    answer = client.ask("GET", url, {"Range": f"bytes={start}-"} if start else {})
    try:
        # A server that knows no ranges sends everything: what is here already is read and passed over.
        skip = start if answer.status == 200 else 0
        while data := answer.read1(PIECE):
            passed = min(skip, len(data))
            skip -= passed
            if data[passed:]:
                yield data[passed:]
    except (OSError, http.client.HTTPException) as error:
        raise BrokenError(f"{urlsplit(url).netloc}: {describe(error)}") from error
    finally:
        answer.close()
