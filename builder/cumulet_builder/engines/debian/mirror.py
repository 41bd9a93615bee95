"""Where Debian packages come from: `--mirror`, the user's settings, or this computer's own apt.

No mirror is written in this project; its name never goes into a lock or an image.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError

FORMAT = "$(REPO_URI)|$(RELEASE)|$(ORIGIN)|$(LABEL)|$(SIGNED_BY)"
SETTINGS = "cumulet/config.yaml"
SETTINGS_KEYS = ("mirror", "security_mirror")
HINT = "name a Debian mirror: --mirror URL, or `mirror: URL` in ~/.config/cumulet/config.yaml"


@dataclass(frozen=True)
class Mirror:
    """A Debian archive, and the one with its security updates ("" if there is none)."""

    main: str
    security: str = ""
    keyring: str = ""

    def sources(self, suite: str, components: tuple[str, ...]) -> str:
        """The sources.list text for a suite."""
        options = f"[signed-by={self.keyring}] " if self.keyring else ""
        parts = " ".join(components)
        lines = [f"deb {options}{self.main} {suite} {parts}", f"deb {options}{self.main} {suite}-updates {parts}"]
        if self.security:
            lines.append(f"deb {options}{self.security} {suite}-security {parts}")
        return "\n".join(lines) + "\n"


def find_mirror(option: str | None) -> Mirror:
    """The mirror to use: the option, the user's settings, or this computer's apt configuration.

    Raises ToolError if there is none.
    """
    if option:
        return Mirror(_address(option, "--mirror"), "", find_keyring())
    settings = load_settings()
    if settings.get("mirror"):
        main, security = (_address(settings.get(key, ""), f"{settings_path()}: {key}") for key in SETTINGS_KEYS)
        return Mirror(main, security, find_keyring())
    return probe_mirror()


def settings_path() -> Path:
    """Where the user's settings file is or would be."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / SETTINGS


def load_settings() -> dict[str, str]:
    """The user's settings file as a mapping, without keys that have no value; empty if there is none."""
    path = settings_path()
    if not path.exists():
        return {}
    try:
        data = yaml.safe_load(path.read_text()) or {}
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not YAML: {' '.join(str(error).split())}", hint=HINT) from error
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be a mapping", hint=HINT)
    return {str(key): str(value) for key, value in data.items() if value is not None}


def probe_mirror() -> Mirror:
    """The Debian archive that this computer's own apt uses."""
    if proc.find("apt-get") is None:
        raise ToolError("this computer has no apt", hint="apt-get install apt, or use a Debian computer or container")
    listing = proc.run(["apt-get", "indextargets", "--format", FORMAT, "Created-By: Packages"], check=False)
    found: dict[str, tuple[str, str]] = {}
    for line in listing.out.splitlines():
        uri, _, origin, label, keyring = (line.split("|") + [""] * 5)[:5]
        kind = _kind_of(uri, origin, label)
        if kind:
            found.setdefault(kind, (uri.rstrip("/"), keyring))
    if "main" not in found:
        raise ToolError("this computer's apt names no Debian mirror", hint=HINT)
    return Mirror(found["main"][0], found.get("security", ("", ""))[0], find_keyring())


def find_keyring() -> str:
    """Debian's own archive keyring on this computer ("" lets apt use its trusted keys)."""
    for name in ("debian-archive-keyring.pgp", "debian-archive-keyring.gpg"):
        path = Path("/usr/share/keyrings") / name
        if path.exists():
            return str(path)
    return ""


def _kind_of(uri: str, origin: str, label: str) -> str:
    # Before the first `apt-get update` apt knows no origin: then the path tells.
    last = uri.rstrip("/").rsplit("/", 1)[-1]
    if label == "Debian-Security" or (not origin and last in ("debian-security", "security")):
        return "security"
    if (origin == "Debian" and label == "Debian") or (not origin and last == "debian"):
        return "main"
    return ""


def _address(url: str, asker: str) -> str:
    if "://" not in url and url and Path(url).is_dir():
        url = Path(url).resolve().as_uri()
    if url and not url.startswith(("http://", "https://", "file://")):
        raise UsageError(f"{asker} {url}: not an http, https or file address", hint=HINT)
    return url.rstrip("/")
