"""Signatures of an index: ed25519 over its bytes, one line for each key and text, in a file beside it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, UsageError
from cumulet.core.files import writing

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

WORD = "ed25519"


def make_key(path: Path) -> Path:
    """Write a new private key to `path` and the public one beside it, with `.pub`; returns that one's path."""
    from cryptography.hazmat.primitives import serialization as forms  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - slow to import

    public = path.with_name(f"{path.name}.pub")
    for each in (path, public):
        if each.exists():
            raise UsageError(f"{each}: is there already", hint="name another file; a key cannot be made twice")
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(forms.Encoding.PEM, forms.PrivateFormat.PKCS8, forms.NoEncryption())
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not even for a moment may others read it.
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        stream.write(private)
        stream.flush()
        os.fsync(stream.fileno())
    with writing(public) as stream:
        stream.write(key.public_key().public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo))
    return public


def load_private(path: Path) -> Ed25519PrivateKey:
    """The private key of a PEM file. Raises UsageError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415 - slow to import

    try:
        key = load_pem_private_key(_read(path), None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: no private key (ed25519, PEM, no passphrase)", hint="cumulet package new-key FILE")
    return key


def load_public(path: Path) -> Ed25519PublicKey:
    """The public key of a PEM file. Raises UsageError."""
    return load_public_text(_read(path).decode(errors="replace"), str(path))


def load_public_text(text: str, name: str) -> Ed25519PublicKey:
    """The public key in a text of PEM; `name` is its file's. Raises UsageError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey  # noqa: PLC0415 - slow to import
    from cryptography.hazmat.primitives.serialization import load_pem_public_key  # noqa: PLC0415 - slow to import

    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise UsageError(f"{name}: no public key (ed25519, PEM)", hint="it is the .pub file of cumulet package new-key")
    return key


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", hint="name the file with the key") from error


def sign(data: bytes, key: Ed25519PrivateKey) -> str:
    """The line that says that the key's owner has made these bytes."""
    return f"{WORD} {hashlib.sha256(data).hexdigest()} {base64.b64encode(key.sign(data)).decode()}\n"


def verify(data: bytes, signatures: bytes, key: Ed25519PublicKey, where: str) -> None:
    """Raise TargetError unless a line of `signatures` says that the key's owner has made `data`."""
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - slow to import

    for line in signatures.decode(errors="replace").splitlines():
        words = line.split(" ")
        # The digest only says which line is meant; what counts is the signature over the text itself.
        if len(words) != 3 or words[:2] != [WORD, hashlib.sha256(data).hexdigest()]:
            continue
        try:
            key.verify(base64.b64decode(words[2], validate=True), data)
        except (InvalidSignature, binascii.Error, ValueError):
            continue
        return
    raise TargetError(
        f"{where}: the index is not signed by the key of this site: changed on the way, or made by somebody else",
        hint="packages.key in site.yaml must be the publisher's public key",
    )
