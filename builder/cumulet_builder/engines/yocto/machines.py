"""Which machine of meta-cumulet-bsp a board is: told by the machine files themselves, so that a board needs no code."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import UsageError

SETTING = re.compile(r'^CUMULET_(BOARD|BOOT) = "([^"]+)"$', re.MULTILINE)
BOOTS = ("efi", "phone", "uboot")


@dataclass(frozen=True)
class Machine:
    """A machine of bitbake. `boot`: efi, uboot, or phone (a boot image, and a disk without an EFI partition)."""

    name: str
    board: str
    boot: str


def load_machines(layers: Path) -> dict[str, Machine]:
    """Board -> machine, from the folder of our layers."""
    found = {}
    for path in sorted((layers / "meta-cumulet-bsp/conf/machine").glob("*.conf")):
        said = dict(SETTING.findall(path.read_text()))
        if said.get("BOOT") not in BOOTS or "BOARD" not in said:
            raise UsageError(f"{path}: sets no CUMULET_BOARD, or no CUMULET_BOOT", hint=f"one of {', '.join(BOOTS)}")
        found[said["BOARD"]] = Machine(path.stem, said["BOARD"], said["BOOT"])
    return found
