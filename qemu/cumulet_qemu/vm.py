"""A virtual board from start to end: QEMU, its consoles, and what the guest reports about itself.

The guest gives the verdict: an image says `cumulet: running SECONDS`,
`cumulet: ready SECONDS` or `cumulet: failed REASON` on its console, SECONDS
being its uptime; `degraded` for `running` is a failure. A QEMU that ended is noticed within a second and is an error
that shows the last lines of the console.
"""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from cumulet.core import proc
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError, ToolError
from cumulet_qemu.console import Console
from cumulet_qemu.machine import Options, make_argv
from cumulet_qemu.monitor import Monitor
from cumulet_qemu.published import Published
from cumulet_qemu.rundir import RunFolder, open_run
from cumulet_qemu.shell import Shell
from cumulet_qemu.sim.radio import Radio, open_radio
from cumulet_qemu.strategy import open_shell

if TYPE_CHECKING:
    from subprocess import Popen

State = Literal["running", "ready"]
REPORTS: dict[State, re.Pattern[str]] = {
    # What systemd calls itself when it has nothing left to start: only one of these words is good.
    "running": re.compile(r"cumulet: (running|degraded|maintenance|stopping|offline) (\d+(?:\.\d+)?)"),
    "ready": re.compile(r"cumulet: (ready) (\d+(?:\.\d+)?)"),
}
FAILURE = re.compile(r"cumulet: failed\b.*|Kernel panic - not syncing.*")
START_SECONDS = 60.0
LAST_WORDS_SECONDS = 2.0
# How an emulator ends that has met a bug of its own.
CRASHES = frozenset(-each for each in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL))
TAIL = 50


class VirtualMachine:
    """One machine: a context that starts QEMU and always ends it.

    `logs` is the folder for `console.log` (boot console), `shell.log` (root
    shell) and `qemu.log`; without it they go away with the run, or stay in
    `options.keep`.
    """

    def __init__(self, published: Published, options: Options, logs: Path | None = None) -> None:
        self.published = published
        self.options = options
        self._logs = logs
        self._stack = contextlib.ExitStack()
        self._process: Popen[str] | None = None
        self._since = 0
        self._begun = 0.0
        self.crashes = 0
        """How often QEMU has crashed before the guest said a word, and was started again."""

    def __enter__(self) -> VirtualMachine:
        try:
            self._start()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def alive(self) -> bool:
        """Whether QEMU runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def ssh_port(self) -> int:
        """The port on this computer that leads to the guest's ssh."""
        return self._run.wiring.ssh_port

    @property
    def ssh_command(self) -> str:
        """What a person types to log in."""
        return f"ssh -p {self.ssh_port} root@127.0.0.1"

    @property
    def logs(self) -> Path:
        """The folder with the transcripts."""
        return self._run.logs

    @property
    def seconds(self) -> float:
        """Seconds on this computer since the guest's processors were started."""
        return time.monotonic() - self._begun

    def check(self) -> None:
        """Raise TargetError with the console's last lines if QEMU ended or the guest says that it failed."""
        if not self.alive:
            self.console.wait_end(LAST_WORDS_SECONDS)
            if self._crashed_at_once() and not self.crashes:
                # QEMU 7.2 now and then reads through a null pointer when two emulated processors begin at once on a
                # busy computer. The guest has not run, so nothing of it is lost or hidden by another start.
                self.crashes += 1
                self._stack.close()
                self._start()
                return
            raise self.error(self._describe_end())
        failed = self.console.find(FAILURE, self._since)
        if failed:
            raise self.error(f"guest: {failed[0]}")

    def error(self, message: str) -> TargetError:
        """A TargetError with the last lines of the boot console."""
        lines = self.console.tail(TAIL)
        tail = "\n".join(f"  {line}" for line in lines) or "  (nothing)"
        text = f"{self.published.image}: {message}\nlast {len(lines)} lines of its console:\n{tail}"
        kept = self._logs is not None or self.options.keep is not None
        return TargetError(text, hint=f"the whole console: {self.logs / 'console.log'}" if kept else "")

    def wait_line(self, pattern: re.Pattern[str], what: str, deadline: Deadline) -> re.Match[str]:
        """Wait for a line on the boot console since the last (re)start; TargetError at the deadline."""
        while True:
            match = self.console.wait_line(pattern, self._since, deadline)
            if match is not None:
                return match
            self.check()
            if deadline.passed:
                raise self.error(f"{what}: not within {deadline.seconds:.0f} s")

    def wait_state(self, state: State, deadline: Deadline) -> float:
        """Wait until the guest says `running` or `ready`; returns its uptime in seconds at that moment."""
        match = self.wait_line(REPORTS[state], f"'cumulet: {state}'", deadline)
        if match[1] != state:
            raise self.error(f"guest: systemd is {match[1]}, not {state}")
        return float(match[2])

    def uptime(self, state: State) -> float | None:
        """The guest's uptime in seconds when it reported `state`, or None if it did not yet."""
        match = self.console.find(REPORTS[state], self._since)
        return float(match[2]) if match and match[1] == state else None

    def wait_ssh(self, deadline: Deadline) -> str:
        """Wait until the guest's ssh server says who it is; returns its banner."""
        while True:
            banner = self._probe_ssh(min(10.0, deadline.left))
            if banner:
                return banner
            self.check()
            if deadline.passed:
                raise self.error(f"no ssh server answers within {deadline.seconds:.0f} s")
            deadline.sleep(1.0)

    def open_shell(self, deadline: Deadline) -> Shell:
        """A root shell in the guest. Raises TargetError if none answers by the deadline."""
        return open_shell([self.shell_console or self.console], self.check, deadline)

    def reboot(self, shell: Shell, deadline: Deadline) -> None:
        """Ask the guest to reboot and wait until the machine was reset. Shells opened before are void."""
        before = self._monitor.count("RESET")
        shell.send("systemctl --no-block reboot || reboot -f")
        self.wait_reset(before, deadline)

    def resets(self) -> int:
        """How often the machine was reset."""
        return self._monitor.count("RESET")

    def wait_reset(self, seen: int, deadline: Deadline) -> None:
        """Wait until the machine was reset more than `seen` times; what it said before counts no more."""
        while not self._monitor.wait_event("RESET", seen, deadline):
            self.check()
            if deadline.passed:
                raise self.error(f"no reset within {deadline.seconds:.0f} s")
        self._since = self.console.count()

    def powerdown(self, deadline: Deadline) -> None:
        """Press the power button and wait until the guest switched itself off."""
        if self.alive:
            self._monitor.execute("system_powerdown")
        self.wait_end(deadline)

    def wait_end(self, deadline: Deadline) -> None:
        """Wait until the guest switched itself off. Raises TargetError at the deadline or if QEMU failed."""
        while self.alive:
            if deadline.passed:
                raise self.error(f"still on after {deadline.seconds:.0f} s")
            deadline.sleep(0.2)
        if self._process is not None and self._process.returncode != 0:
            raise self.error(self._describe_end())

    def kill(self) -> None:
        """End QEMU at once, as pulling the plug does."""
        if self._process is not None:
            proc.kill(self._process)

    def _start(self) -> None:
        enter = self._stack.enter_context
        self._run: RunFolder = enter(open_run(self.published, self.options, self._logs))
        argv = make_argv(self.published, self.options, self._run.wiring)
        log = enter((self._run.logs / "qemu.log").open("w"))
        log.write(f"+ {proc.quote(argv)}\n")
        log.flush()
        self._process = proc.spawn([*_make_leash(), *argv], log=log)
        self._stack.callback(self.kill)
        deadline = Deadline.after(START_SECONDS)
        self._begun = time.monotonic()
        self.console = enter(self._open_console(self._run.wiring.console, "console", deadline))
        self.shell_console = (
            enter(self._open_console(self._run.wiring.shell, "shell", deadline)) if self.options.shell else None
        )
        ports = {name: self._connect(path, deadline) for name, path in self._run.wiring.ports.items()}
        self.radio: Radio = enter(open_radio(self.published, self.options, ports, self._run.logs))
        self._monitor = self._open_monitor()
        self._stack.callback(self._monitor.close)
        self._begun = time.monotonic()
        self._monitor.execute("cont")

    def _crashed_at_once(self) -> bool:
        ended = self._process.poll() if self._process is not None else None
        return ended in CRASHES and self.console.count() == 0

    def _open_console(self, path: Path, name: str, deadline: Deadline) -> Console:
        connection = self._connect(path, deadline)
        return Console(connection, self._run.logs / f"{name}.log", self._begun)

    def _open_monitor(self) -> Monitor:
        from qemu.qmp import QMPError  # noqa: PLC0415 - 60 ms that only a started machine needs

        try:
            return Monitor(self._run.wiring.qmp)
        except (QMPError, EOFError, OSError, TimeoutError) as error:
            raise self._start_error() from error

    def _connect(self, path: Path, deadline: Deadline) -> socket.socket:
        """Connect to a socket that QEMU opens while it starts."""
        while True:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(str(path))
            except (FileNotFoundError, ConnectionRefusedError):
                connection.close()
            else:
                return connection
            if not self.alive or deadline.passed:
                raise self._start_error()
            deadline.sleep(0.02)

    def _start_error(self) -> ToolError:
        words = (self._run.logs / "qemu.log").read_text(errors="replace").splitlines()
        reason = "\n".join(words[1:][-TAIL:]).strip() or self._describe_end()
        return ToolError(
            f"{self.published.qemu.program} did not start: {reason}", hint=f"the command was: {words[0][2:]}"
        )

    def _describe_end(self) -> str:
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return "QEMU does not answer"
        if code == 0:
            return "the machine switched itself off"
        again = f", for the {self.crashes + 1}. time" if self.crashes else ""
        return f"QEMU {proc.describe_exit(code)}{again}"

    def _probe_ssh(self, seconds: float) -> str:
        # QEMU accepts the connection itself, so only the guest's own words count.
        try:
            with socket.create_connection(("127.0.0.1", self.ssh_port), timeout=seconds) as connection:
                banner = connection.recv(256).decode("ascii", "replace")
        except OSError:
            return ""
        return banner.strip() if banner.startswith("SSH-") else ""


def _make_leash() -> list[str]:
    """Words before QEMU's own that end it with this program, even if this one is killed."""
    return ["setpriv", "--pdeathsig", "KILL", "--"] if proc.find("setpriv") else []
