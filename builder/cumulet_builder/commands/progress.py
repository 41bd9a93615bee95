"""What a person sees of a build: bars on a terminal, plain lines elsewhere, nothing with --json."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import click

from cumulet_builder.plan import Step

MEGABYTE = 1_000_000


@dataclass
class Lines:
    """A reporter that writes plain lines to stderr, so that stdout stays the command's own."""

    quiet: bool = False
    bar: Any = field(default=None, repr=False)

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, *error: object) -> None:
        # A bar hides the cursor until it is closed.
        self._close()

    def say(self, text: str) -> None:
        """One line."""
        if not self.quiet:
            click.echo(text, err=True)

    def step(self, step: Step, seconds: float) -> None:
        """A stage starts (seconds below 0) or has ended."""
        self._close()
        if seconds < 0:
            self.say(f"  {step.stage.name:<12} {step.reason} ...")
        else:
            self.say(f"  {step.stage.name:<12} {seconds:.1f} s")

    def download(self) -> Callable[..., None] | None:
        """A progress bar on a terminal; a line at each tenth elsewhere."""
        if self.quiet:
            return None
        return self._bar if sys.stderr.isatty() else self._tenths()

    def _bar(self, progress: Any) -> None:
        if self.bar is None:
            from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

            columns = (TextColumn("  {task.description}"), BarColumn(None), DownloadColumn(), TransferSpeedColumn())
            self.bar = Progress(*columns, transient=True, console=_console())
            self.bar.start()
            self.bar.add_task("downloading", total=progress.total)
        self.bar.update(self.bar.task_ids[0], completed=progress.done, total=progress.total)
        if progress.files_done == progress.files:
            self._close()

    def _tenths(self) -> Callable[[Any], None]:
        last = [-1]

        def told(progress: Any) -> None:
            if not progress.total:
                return
            tenth = 10 * progress.done // progress.total
            if tenth > last[0]:
                last[0] = tenth
                size = f"{progress.done / MEGABYTE:.0f} of {progress.total / MEGABYTE:.0f} MB"
                self.say(f"  downloading  {10 * tenth}% ({size})")

        return told

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)
