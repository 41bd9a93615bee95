"""The user's terminal as the machine's console: raw keys in, both consoles out, Ctrl-] leaves."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import tty
from collections.abc import Iterator

from cumulet_qemu.vm import VirtualMachine

LEAVE = b"\x1d"  # Ctrl-]
POLL_SECONDS = 0.2


def attach(vm: VirtualMachine) -> bool:
    """Connect the terminal to the machine until the user leaves (True) or the machine ends (False).

    Keys go to the boot console, where a boot menu may be, until the root shell
    on the second console says its first word.
    """
    keyboard, screen = sys.stdin.fileno(), sys.stdout.fileno()

    def show(data: bytes) -> None:
        os.write(screen, data)

    consoles = [vm.console, *([vm.shell_console] if vm.shell_console else [])]
    with _raw(keyboard):
        for console in consoles:
            console.mirror(show)
        try:
            while vm.alive:
                if not select.select([keyboard], [], [], POLL_SECONDS)[0]:
                    continue
                keys = os.read(keyboard, 1024)
                if not keys or LEAVE in keys:
                    return True
                shell = vm.shell_console
                (shell if shell is not None and shell.tail(1) else vm.console).send(keys)
        finally:
            for console in consoles:
                console.mirror(None)
    return False


@contextlib.contextmanager
def _raw(keyboard: int) -> Iterator[None]:
    before = termios.tcgetattr(keyboard)
    tty.setraw(keyboard)
    try:
        yield
    finally:
        termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
