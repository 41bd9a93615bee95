"""How an API server is reached: its address, whom it must be, and as whom we come."""

from __future__ import annotations

import base64
import json
import ssl
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cumulet.core.errors import ToolError, UsageError

NARROW_SEGMENT = 1220
"""Bytes of a TCP segment that fit through every link of at least 1280 bytes, over IPv4 and IPv6."""


@dataclass(frozen=True, slots=True)
class Access:
    """An API server. Texts in PEM; an empty text: not there. `segment` 0: as large as the kernel likes.

    `token_file` is a file whose token is made anew from time to time, as pods have it.
    """

    server: str
    authority: str = ""
    token: str = ""
    certificate: str = ""
    key: str = ""
    server_name: str = ""
    segment: int = 0
    token_file: str = ""

    @property
    def host(self) -> str:
        """The name or address to connect to."""
        return urlsplit(self.server).hostname or ""

    @property
    def port(self) -> int:
        """The port to connect to."""
        return urlsplit(self.server).port or 443

    @property
    def prefix(self) -> str:
        """What comes before every path, without a slash at its end."""
        return urlsplit(self.server).path.rstrip("/")


def check_server(server: str) -> str:
    """An `https://` address as it is. Raises ValueError."""
    parts = urlsplit(server)
    if parts.scheme != "https" or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError(f"{server!r} is not an API server; write it like https://hub.example:6443")
    return server


def make_context(access: Access) -> ssl.SSLContext:
    """TLS towards the server; its certificate is always checked. Raises UsageError for what is no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    try:
        if access.authority:
            context.load_verify_locations(cadata=access.authority)
        else:
            context.load_default_certs()
        if access.certificate:
            _load_identity(context, access)
    except ssl.SSLError as error:
        raise UsageError(f"{access.server}: certificate or key: {error.reason or error}") from error
    return context


def _load_identity(context: ssl.SSLContext, access: Access) -> None:
    # The library reads files only; the key is on no disk that outlives this call where /dev/shm is there.
    memory = Path("/dev/shm")
    with tempfile.NamedTemporaryFile("w", dir=memory if memory.is_dir() else None) as file:
        file.write(access.certificate.rstrip() + "\n" + access.key)
        file.flush()
        context.load_cert_chain(file.name)


def load_access(path: Path, context: str = "") -> Access:
    """What a kubeconfig says of its current context, or of `context`. Raises UsageError."""
    try:
        text = path.read_text()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read: {error.strerror}", hint="name the kubeconfig of an administrator"
        ) from error
    document = _parse(text, path)
    try:
        wanted = context or document["current-context"]
        chosen = _named(document["contexts"], wanted)["context"]
        cluster = _named(document["clusters"], chosen["cluster"])["cluster"]
        user = _named(document.get("users") or [], chosen.get("user", ""))["user"] or {}
        check_server(cluster["server"])
    except (KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a kubeconfig: {error} is missing") from error
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
    if "exec" in user or "auth-provider" in user:
        raise UsageError(
            f"{path}: user {chosen.get('user')!r} gets its identity from a program",
            hint="use one with a token or a certificate",
        )
    return Access(
        server=cluster["server"],
        authority=_content(cluster, "certificate-authority", path),
        token=user.get("token") or "",
        token_file=str(path.parent / user["tokenFile"]) if user.get("tokenFile") else "",
        certificate=_content(user, "client-certificate", path),
        key=_content(user, "client-key", path),
        server_name=cluster.get("tls-server-name", ""),
    )


def load_own_access() -> Access:
    """The API server of the cluster whose pod this is. Raises ToolError outside of a pod."""
    import os  # noqa: PLC0415 - a service on a node has a kubeconfig

    folder = Path("/var/run/secrets/kubernetes.io/serviceaccount")
    host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
    if not host or not folder.is_dir():
        raise ToolError("no kubeconfig named, and this is no pod", hint="--kubeconfig FILE")
    port = os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Access(server, (folder / "ca.crt").read_text(), token_file=str(folder / "token"))


def as_user(access: Access, certificate: str, key: str) -> Access:
    """The same server, reached with a client certificate."""
    return replace(access, token="", certificate=certificate, key=key)


def as_token(access: Access, token: str) -> Access:
    """The same server, reached with a token."""
    return replace(access, token=token, certificate="", key="")


def _parse(text: str, path: Path) -> dict[str, Any]:
    if text.lstrip().startswith("{"):
        document = json.loads(text)
    else:
        import yaml  # noqa: PLC0415 - our own files are JSON

        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: not a kubeconfig")
    return document


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    for entry in entries:
        if entry["name"] == name:
            return entry
    raise KeyError(name)


def _content(part: dict[str, Any], name: str, path: Path) -> str:
    if part.get(f"{name}-data"):
        return base64.b64decode(part[f"{name}-data"]).decode()
    return (path.parent / part[name]).read_text() if part.get(name) else ""
