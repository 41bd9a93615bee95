"""What was changed on the device: /etc/cumulet/modem.conf, a key and a value a line.

The recipe's own wishes are in the service that reads this file; what stands here wins over them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from cumulet.core.documents import suggest
from cumulet.core.errors import UsageError
from cumulet.core.files import write_text
from cumulet.modem.bands import GENERATIONS, make_band, make_modes

FILE = Path("/etc/cumulet/modem.conf")
UPLINKS = ("ethernet", "modem")
# Key -> what it takes, in words.
SETTINGS = {
    "apn": "an access point name, like cmnet; empty: what the network gives",
    "user": "the user name that the access point asks for",
    "roaming": "yes or no",
    "ip": "ipv4, ipv6 or ipv4v6",
    "failover": "uplinks, the preferred one first, like ethernet,modem",
    "bands": "bands, like eutran-3,ngran-78; empty: all",
    "generations": "generations, like 4g,5g; empty: all",
}
SECRETS = ("pin", "password")
FORMS = {"apn": r"([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)?", "user": r"[A-Za-z0-9@._-]*"}
CHOICES = {"roaming": ("yes", "no"), "ip": ("ipv4", "ipv6", "ipv4v6")}


def make_settings(changes: Mapping[str, str]) -> dict[str, str]:
    """The changes, checked, with lists joined by blanks. Raises UsageError for a key or value that is none."""
    return {key: _check(key, value) for key, value in changes.items()}


def load_settings(file: Path = FILE) -> dict[str, str]:
    """What was changed before; nothing if nothing was. Lines that are not settings are left out."""
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError:
        return {}
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {key: value for key, _, value in pairs if key in SETTINGS}


def write_settings(settings: Mapping[str, str], file: Path = FILE) -> None:
    """Keep the changes."""
    lines = [f"{key}={settings[key]}" for key in SETTINGS if key in settings]
    write_text(file, "\n".join(["# Changed on this device; wins over the recipe. No secrets.", *lines]) + "\n")


def _check(key: str, value: str) -> str:
    if key in SECRETS:
        raise UsageError(
            f"{key}: not changed here: it would be readable for everybody", hint=f"write it to /etc/cumulet/modem.{key}"
        )
    if key not in SETTINGS:
        raise UsageError(f"unknown setting {key!r}", hint=suggest(key, SETTINGS) or f"known: {', '.join(SETTINGS)}")
    words = value.replace(",", " ").split()
    good = {
        "bands": lambda: bool([make_band(word) for word in words]) or not words,
        "generations": lambda: bool(make_modes(words)) or not words,
        "failover": lambda: bool(words) and "modem" in words and set(words) <= set(UPLINKS),
    }
    if key in good:
        if not good[key]():
            raise UsageError(f"{key}: {value!r} is not right", hint=f"it takes {SETTINGS[key]}")
        return " ".join(dict.fromkeys(words))
    if value not in CHOICES.get(key, (value,)) or not re.fullmatch(FORMS.get(key, r".*"), value):
        raise UsageError(f"{key}: {value!r} is not right", hint=f"it takes {SETTINGS[key]}")
    return value


__all__ = ["FILE", "GENERATIONS", "SETTINGS", "load_settings", "make_settings", "write_settings"]
