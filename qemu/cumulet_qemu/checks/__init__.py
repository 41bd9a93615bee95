"""The boot checks that `cumulet test` runs: which files belong to which name in a recipe's `test`. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cumulet.core.errors import UsageError

FOLDER = Path(__file__).parent
CONFIGURATION = FOLDER / "pytest.ini"
CHECKS = {
    "base": ("test_base.py",),
    "modem": ("test_modem.py",),
    "gnss": ("test_gnss.py",),
    "inference": ("test_inference.py",),
    "kubernetes": ("test_kubernetes.py",),
    "k3s": ("test_kubernetes.py", "test_k3s.py"),
}
"""Files per name, in the order in which they run."""
AFTER_REBOOT = {
    "base": ("test_reboot.py",),
    "modem": ("test_reboot_modem.py",),
    "kubernetes": ("test_reboot_kubernetes.py",),
    "k3s": ("test_reboot_kubernetes.py",),
}
"""Files that run last, because they reboot the machine."""


def make_files(names: Sequence[str]) -> list[Path]:
    """The check files for the names, each once, reboots last. Raises UsageError for an unknown name."""
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        raise UsageError(f"unknown boot checks: {', '.join(unknown)}", hint=f"there are: {', '.join(CHECKS)}")
    files = [
        file for table in (CHECKS, AFTER_REBOOT) for name in CHECKS if name in names for file in table.get(name, ())
    ]
    return [FOLDER / file for file in dict.fromkeys(files)]
