"""Commands in a shell on a console: what a command printed, and its exit code, told apart by markers."""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import pexpect

from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet_qemu.console import ESCAPES, Console

POLL_SECONDS = 1.0
# A terminal that collects whole lines takes no more than 4095 bytes in one.
LONGEST_LINE = 4000
Check = Callable[[], None]
"""Raises the error that explains why waiting on makes no sense."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command in the guest left: both outputs together, and its exit code."""

    command: str
    code: int
    output: str


class Shell:
    """A POSIX shell that reads commands from `console`.

    `check` is called about once a second while waiting.
    """

    def __init__(self, console: Console, check: Check) -> None:
        self._console = console
        self._check = check
        self._stream = console.stream()
        self._mark = f"here-{secrets.token_hex(6)}"

    def run(self, command: str, deadline: Deadline) -> Outcome:
        """Run a shell command, with standard input closed, and wait for its end.

        Raises TargetError if it is not done by the deadline or the machine ends.
        """
        mark = f"mark-{secrets.token_hex(6)}"
        begin, end = f"printf '\\n%s-%s\\n' {mark} begin", f"printf '\\n%s-%s-%d\\n' {mark} end $?"
        self.send(f"{begin}; {make_line(command)}; {end}")
        pattern = rf"{mark}-begin\r?\n(.*?)\r?\n{mark}-end-(\d+)\r?\n".encode()
        match = self.expect(pattern, f"command: {command}", deadline)
        return Outcome(command, int(match[2]), _clean(match[1]))

    def check_run(self, command: str, deadline: Deadline) -> str:
        """The output of a command that must exit with 0; raises TargetError if it does not."""
        outcome = self.run(command, deadline)
        if outcome.code != 0:
            raise TargetError(f"guest: {command}: exited with code {outcome.code}\n{outcome.output[-2000:]}")
        return outcome.output.strip()

    def expect(self, pattern: bytes, what: str, deadline: Deadline) -> re.Match[bytes]:
        """Wait for a pattern in what was not read yet. Raises TargetError naming `what` at the deadline."""
        compiled = re.compile(pattern, re.DOTALL)
        while True:
            seconds = min(POLL_SECONDS, deadline.left)
            found = self._stream.expect([compiled, pexpect.TIMEOUT, pexpect.EOF], timeout=seconds)
            if found == 0:
                return cast("re.Match[bytes]", self._stream.match)
            self._check()
            deadline.check(what)
            if found == 2:
                raise TargetError(f"{what}: the console ended")

    def probe(self, seconds: float) -> bool:
        """Whether a shell answers within `seconds`, this question or an earlier one.

        Also turns off echo, prompts and line editing.
        """
        # The words arrive in two parts, so that an echo of the line is not taken for the answer.
        self.send(f"stty -echo 2>/dev/null; PS1= PS2= TERM=dumb; export TERM; printf '%s-%s\\n' {self._mark} shell")
        pattern = re.compile(rf"{self._mark}-shell\r?\n".encode())
        found: int = self._stream.expect([pattern, pexpect.TIMEOUT, pexpect.EOF], timeout=seconds)
        return found == 0

    def send(self, line: str) -> None:
        """Type a line whose result nobody waits for."""
        self._console.send(f"{line}\n".encode())


def make_line(command: str) -> str:
    """A command as one shell word list, its input closed and its errors in its output.

    Raises ValueError for a command that a terminal's line cannot take.
    """
    line = f"sh -c {shlex.quote(command)} </dev/null 2>&1"
    if any(len(part.encode()) > LONGEST_LINE for part in line.split("\n")):
        raise ValueError(f"command line longer than {LONGEST_LINE} bytes: {command[:60]}...")
    return line


def _clean(data: bytes) -> str:
    return ESCAPES.sub("", data.decode("utf-8", "replace")).replace("\r\n", "\n")
