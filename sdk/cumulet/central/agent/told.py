"""What this cluster tells its hub with every lease: what the recorder and the uplink publish here, or a hub's sums."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from cumulet.central.kube import Json, Kube
from cumulet.central.protocol import CONFIG_MAPS, HUB_NAMESPACE, PULSE, PULSE_MAP
from cumulet.central.pulse import Pulse, read_links, read_pulse, write_pulse
from cumulet.core.errors import UsageError

PULSE_FILE, UPLINK_FILE = "pulse.json", "uplink.json"
OLD_SECONDS = 600.0
"""A pulse that nobody has renewed for so long is not told any more: its recorder does not run."""
OLD_LINKS_SECONDS = 120.0


def set_pulse(lease: Json, pulse: Pulse | None) -> None:
    """Put a pulse into a lease, or take the old one out of it."""
    notes = lease["metadata"].get("annotations") or {}
    notes.pop(PULSE, None)
    lease["metadata"]["annotations"] = notes | ({PULSE: write_pulse(pulse)} if pulse is not None else {})


async def load_pulse(kube: Kube, folder: Path, is_hub: bool) -> Pulse | None:
    """The newest pulse, or None. Raises UsageError for what cannot be read, RefusedError, UnreachableError."""
    if not is_hub:
        return load_own(folder, time.time())
    found = await kube.find(CONFIG_MAPS, PULSE_MAP, HUB_NAMESPACE)
    text = ((found or {}).get("data") or {}).get("pulse", "")
    return read_pulse(text) if text else None


def load_own(folder: Path, now: float) -> Pulse | None:
    """The pulse of a site, with its links: each as far as it is there and not old. Raises UsageError."""
    text = _read(folder / PULSE_FILE)
    pulse = read_pulse(text.strip()) if text else None
    if pulse is not None and abs(now - pulse.at) > OLD_SECONDS:
        pulse = None
    choice = _load_choice(folder / UPLINK_FILE)
    if choice is None or not abs(now - _number(choice.get("written"))) < OLD_LINKS_SECONDS:
        return pulse
    return replace(pulse or Pulse(at=int(now)), links=read_links(choice))


def _load_choice(path: Path) -> Mapping[str, Any] | None:
    text = _read(path)
    if not text:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}") from error
    return found if isinstance(found, dict) else None


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read: {error}") from error
