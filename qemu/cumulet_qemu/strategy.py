"""How a test gets a root shell in an image that has no password: ways, tried in order.

The image starts a root shell on the second console when the kernel argument
`cumulet.console` or the QEMU value `opt/cumulet/console` asks for it. A guest
without that console may offer its shell on the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet_qemu.console import Console
from cumulet_qemu.shell import Check, Shell

ANSWER_SECONDS = 2.0


def open_shell(consoles: Sequence[Console], check: Check, deadline: Deadline) -> Shell:
    """The first console on which a shell answers; asked in turn, again and again.

    Raises TargetError at the deadline.
    """
    shells = [Shell(console, check) for console in consoles]
    while True:
        for shell in shells:
            if shell.probe(min(ANSWER_SECONDS, deadline.left)):
                return shell
            check()
        if deadline.passed:
            raise TargetError(
                f"guest: no root shell answered within {deadline.seconds:.0f} s",
                hint="the image must start one when the kernel argument cumulet.console=hvc0 is given",
            )
