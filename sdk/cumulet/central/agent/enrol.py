"""Keys and certificates, in a program of its own: the library for them would double the agent's memory.

Reads one request (JSON) on its input and writes one answer. The device's key is made
once, readable by its owner only, and is sent nowhere.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cumulet.central.keys import make_fingerprint

KEY = "device.key"


def load_key(folder: Path) -> ec.EllipticCurvePrivateKey:
    """The device's key; made now if there is none."""
    path = folder / KEY
    if not path.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        text = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = folder / f".{KEY}.{os.getpid()}"
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.rename(path)
    found = serialization.load_pem_private_key(path.read_bytes(), None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{path}: not an EC key")
    return found


def get_fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """How a key is named."""
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return make_fingerprint(der)


def make_request(asked: Mapping[str, Any]) -> dict[str, Any]:
    """A certificate request for `user` and `groups`, and the fingerprint of the key."""
    key = load_key(Path(asked["folder"]))
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, group) for group in asked["groups"]]
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, asked["user"])])
    made = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return {"request": made.public_bytes(serialization.Encoding.PEM).decode(), "key": get_fingerprint(key.public_key())}


def read_certificate(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Since and until when a certificate is valid (Unix time), for which user, whether it is for our key."""
    found = x509.load_pem_x509_certificate(asked["certificate"].encode())
    names = [str(each.value) for each in found.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    own = load_key(Path(asked["folder"])).public_key()
    theirs = found.public_key()
    fits = isinstance(theirs, ec.EllipticCurvePublicKey) and theirs.public_numbers() == own.public_numbers()
    return {
        "since": found.not_valid_before_utc.timestamp(),
        "until": found.not_valid_after_utc.timestamp(),
        "user": names[0] if names else "",
        "fits": fits,
    }


def show_key(asked: Mapping[str, Any]) -> dict[str, Any]:
    """The fingerprint of the device's key."""
    return {"key": get_fingerprint(load_key(Path(asked["folder"])).public_key())}


VERBS: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "request": make_request,
    "read": read_certificate,
    "key": show_key,
}


def main() -> None:
    """Answer one request. What cannot be done is told in `error`."""
    asked = json.load(sys.stdin)
    try:
        answer = VERBS[asked["verb"]](asked)
    except (OSError, ValueError, InvalidSignature) as error:
        answer = {"error": str(error)}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
