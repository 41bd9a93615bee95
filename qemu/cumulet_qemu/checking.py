"""Running the boot checks of an image with pytest in this process, and telling what they said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, ToolError, UsageError
from cumulet_qemu.checks import CONFIGURATION, FOLDER, make_files
from cumulet_qemu.machine import Options
from cumulet_qemu.published import Published

if TYPE_CHECKING:
    import pytest


@dataclass(frozen=True, slots=True)
class Request:
    """What to check: `select` is a pytest -k expression, `junit` the file for the results."""

    published: Published
    options: Options
    logs: Path
    junit: Path | None = None
    select: str | None = None
    time_scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check: `outcome` is passed, failed or skipped; `details` says why it is not passed."""

    name: str
    outcome: str
    seconds: float
    details: str = ""


@dataclass
class Tally:
    """A pytest plugin that keeps and tells every check's outcome."""

    tell: Callable[[Check], None]
    checks: list[Check] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0

    def pytest_configure(self, config: pytest.Config) -> None:
        """Show the lines that failed and not whole functions; the option itself belongs to pytest's own printing."""
        config.option.tbstyle = "short"

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Keep what is wrong with a file of checks."""
        if report.failed:
            self.broken.append(report.longreprtext)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the call of a check, or the phase around it that did not pass."""
        self.seconds = report.duration + (self.seconds if report.when != "setup" else 0.0)
        if report.when == "call" or report.outcome != "passed":
            self.checks.append(make_check(report, self.seconds))
            self.tell(self.checks[-1])

    def pytest_keyboard_interrupt(self) -> None:
        """Tell Ctrl-C from a broken file: pytest ends with the same code for both."""
        self.interrupted = True

    def count(self, outcome: str) -> int:
        """How many checks had this outcome."""
        return sum(check.outcome == outcome for check in self.checks)


def make_check(report: pytest.TestReport, seconds: float) -> Check:
    """A check from pytest's report of it; its name in words, such as `root refuses a write`."""
    name = report.nodeid.rpartition("::")[2].removeprefix("test_").replace("_", " ")
    if report.outcome == "passed":
        return Check(name, "passed", round(seconds, 1))
    if isinstance(report.longrepr, tuple):  # how pytest says why it skipped: file, line, reason
        return Check(name, report.outcome, round(seconds, 1), report.longrepr[2].removeprefix("Skipped: "))
    sections = [f"--- {title}\n{text}" for title, text in report.sections]
    return Check(name, report.outcome, round(seconds, 1), "\n".join([report.longreprtext, *sections]))


def make_arguments(request: Request) -> list[str]:
    """pytest's arguments. Nothing of the folder where the user stands may change a run."""
    options = request.options
    words = ["-c", str(CONFIGURATION), "--rootdir", str(FOLDER), "--confcutdir", str(FOLDER)]
    words += ["-p", "no:terminal"]
    words += ["--cumulet-image", str(request.published.folder), "--cumulet-logs", str(request.logs)]
    words += ["--time-scale", str(request.time_scale), "--cumulet-accel", options.accel]
    words += ["--cumulet-firmware"] if options.firmware else []
    words += ["--cumulet-memory", f"{options.memory >> 20}MiB"] if options.memory else []
    words += ["--cumulet-cpus", str(options.cpus)] if options.cpus else []
    words += ["--junit-xml", str(request.junit.resolve())] if request.junit else []
    words += ["-k", request.select] if request.select else []
    return [*words, *map(str, make_files(request.published.test))]


def run_checks(request: Request, tell: Callable[[Check], None]) -> Tally:
    """Run the checks, telling each. Failed checks are in the tally.

    Raises UsageError if none is selected, ToolError if they cannot be run.
    """
    try:
        import pytest  # noqa: PLC0415 - an optional dependency
    except ImportError as error:
        raise ToolError("pytest: not installed", hint="pip install 'cumulet-board[vm]'") from error
    tally = Tally(tell)
    code = pytest.main(make_arguments(request), plugins=[tally])
    if tally.interrupted:
        raise KeyboardInterrupt
    if tally.broken:
        raise ToolError(f"boot checks: cannot be loaded\n{tally.broken[0]}")
    if code == pytest.ExitCode.NO_TESTS_COLLECTED:
        raise UsageError(
            f"--select {request.select}: matches no check of {request.published.image}",
            hint="--select takes part of a name, as in the list of checks",
        )
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        raise ToolError(f"pytest ended with code {int(code)}", hint="run it with fewer options")
    return tally


def check_tally(request: Request, tally: Tally) -> None:
    """Raise TargetError if a check failed."""
    failed = [check.name for check in tally.checks if check.outcome == "failed"]
    if failed:
        raise TargetError(
            f"{request.published.image}: {len(failed)} of {len(tally.checks)} boot checks failed: {', '.join(failed)}",
            hint=f"transcripts: {request.logs}",
        )
