"""This computer's kernel settings that nodes of a lab change for all: kept when a lab begins, put back at its end."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

SETTINGS = (
    "kernel/panic", "kernel/panic_on_oops", "vm/overcommit_memory", "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
)  # fmt: skip
FILE = "settings.json"
SYSTEM = Path("/proc/sys")


def keep_settings(folder: Path, system: Path = SYSTEM) -> None:
    """Write down what the settings are, unless that has been done."""
    path = folder / FILE
    if not path.exists():
        values = {name: (system / name).read_text().strip() for name in SETTINGS if (system / name).exists()}
        path.write_text(json.dumps(values))


def restore_settings(folder: Path, system: Path = SYSTEM) -> None:
    """Put the settings back to what was written down; nothing if nothing was."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        for name, value in json.loads((folder / FILE).read_text()).items():
            if name in SETTINGS and (system / name).read_text().strip() != value:
                (system / name).write_text(value)
