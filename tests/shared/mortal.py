"""A process whose power is cut at a chosen operation on its disk."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cumulet.spool import Disk

OPERATIONS = ("make_folder", "write", "write_at", "truncate", "sync_file", "sync_folder", "rename", "remove")


class MortalDisk(Disk):
    """Ends the process, as a power cut does, before its n-th operation, or in the middle of it."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __getattribute__(self, name: str) -> Any:
        if name in OPERATIONS:
            self.left -= 1
            if self.left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return super().__getattribute__(name)


def run_mortal(go: Callable[[Path, Disk], None], folder: Path, left: int) -> bool:
    """`go` in a process that dies at the n-th operation; whether it came to its end."""
    child = os.fork()
    if child == 0:
        try:
            go(folder, MortalDisk(left))
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status == 0
