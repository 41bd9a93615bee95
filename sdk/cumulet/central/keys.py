"""How keys are named."""

from __future__ import annotations

import base64
import hashlib


def make_fingerprint(der: bytes) -> str:
    """The name of a public key (SubjectPublicKeyInfo, DER): `SHA256:` and base64, as ssh does."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(der).digest()).decode().rstrip("=")
