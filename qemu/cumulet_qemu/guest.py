"""The guest as a check sees it: a root shell with patience that fits emulation, also across reboots."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError

if TYPE_CHECKING:
    from cumulet_qemu.shell import Outcome, Shell
    from cumulet_qemu.vm import VirtualMachine

SHELL_SECONDS = 300.0
COMMAND_SECONDS = 120.0
RUNNING_SECONDS = 600.0
POLL_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Patience:
    """Makes deadlines. The checks' seconds suit software emulation on a slow computer."""

    scale: float = 1.0

    def __call__(self, seconds: float) -> Deadline:
        """A deadline `seconds` times the scale from now."""
        return Deadline.after(seconds * self.scale)


class Guest:
    """Commands in the guest of `vm`; the root shell is opened at first use."""

    def __init__(self, vm: VirtualMachine, patience: Patience) -> None:
        self.vm = vm
        self.patience = patience
        self._shell: Shell | None = None

    def run(self, command: str, seconds: float = COMMAND_SECONDS) -> Outcome:
        """Run a shell command as root; its exit code may be anything."""
        return self._open().run(command, self.patience(seconds))

    def output(self, command: str, seconds: float = COMMAND_SECONDS) -> str:
        """What a command printed, without blanks at the ends. Raises TargetError unless it exits with 0."""
        return self._open().check_run(command, self.patience(seconds))

    def until(self, command: str, seconds: float) -> str:
        """Repeat a command until it exits with 0; returns what it printed.

        Raises TargetError with the last output after `seconds`.
        """
        deadline = self.patience(seconds)
        while True:
            outcome = self.run(command, seconds)
            if outcome.code == 0:
                return outcome.output.strip()
            if deadline.passed:
                raise TargetError(
                    f"guest: {command}: no success within {deadline.seconds:.0f} s; "
                    f"last code {outcome.code}\n{outcome.output[-2000:]}"
                )
            deadline.sleep(POLL_SECONDS)

    def reboot(self) -> None:
        """Reboot the guest and wait until it says that it is running again."""
        self.vm.reboot(self._open(), self.patience(RUNNING_SECONDS))
        self._shell = None
        self.vm.wait_state("running", self.patience(RUNNING_SECONDS))

    def _open(self) -> Shell:
        if self._shell is None:
            self._shell = self.vm.open_shell(self.patience(SHELL_SECONDS))
        return self._shell
