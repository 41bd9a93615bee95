"""Tokens that let devices join: made here, short-lived, taken away when all are in."""

from __future__ import annotations

import secrets
import time

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def make_token() -> str:
    """A new bootstrap token, `ID.SECRET`."""
    parts = ("".join(secrets.choice(LETTERS) for _ in range(length)) for length in (6, 16))
    return ".".join(parts)


def make_token_manifest(token: str, life: int, now: float | None = None) -> str:
    """The Secret that makes a token known to the API server for `life` seconds."""
    name, _, secret = token.partition(".")
    end = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime((time.time() if now is None else now) + life))
    return f"""\
apiVersion: v1
kind: Secret
metadata: {{name: bootstrap-token-{name}, namespace: kube-system}}
type: bootstrap.kubernetes.io/token
stringData:
  token-id: {name}
  token-secret: {secret}
  expiration: {end}
  usage-bootstrap-authentication: "true"
  usage-bootstrap-signing: "true"
  auth-extra-groups: system:bootstrappers:kubeadm:default-node-token
"""
