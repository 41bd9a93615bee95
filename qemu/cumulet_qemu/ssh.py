"""Logging in to a guest by ssh, with a key made for this run and the host key that the guest itself told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cumulet.core import proc


@dataclass(frozen=True, slots=True)
class Key:
    """A private key file and the public key's line."""

    private: Path
    public: str


def make_key(folder: Path, comment: str = "cumulet-check") -> Key:
    """A new ed25519 key pair in `folder`, without a passphrase."""
    private = folder / "id_ed25519"
    proc.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", private])
    return Key(private, private.with_suffix(".pub").read_text().strip())


def make_argv(key: Key, port: int, known_hosts: Path, command: str, *, password: bool = False) -> list[str]:
    """The ssh command line: nothing from the user's own configuration, the host key always checked."""
    method = "password,keyboard-interactive" if password else "publickey"
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "60",
        "IdentitiesOnly": "yes",
        "PreferredAuthentications": method,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "/dev/null",
    }
    words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    identity = ["-i", str(key.private), "-p", str(port)]
    return ["ssh", "-F", "/dev/null", *identity, *words, "root@127.0.0.1", command]


def make_known_hosts(port: int, public_key: str) -> str:
    """The known-hosts line of a guest behind `port`, from its `TYPE BASE64 COMMENT` public key."""
    kind, value = public_key.split()[:2]
    return f"[127.0.0.1]:{port} {kind} {value}\n"
