"""What a person sees of work on a site: one live line per device on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cumulet.site.act import Event


class Progress:
    """Shows events as they come, on stderr; nothing at all with `quiet`."""

    def __init__(self, *, quiet: bool) -> None:
        self.quiet = quiet
        self.begin = time.monotonic()
        self.live: Any = None
        self.rows: dict[str, tuple[str, str, float]] = {}

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True)
            self.live = Live(console=console, get_renderable=self.render, refresh_per_second=8, transient=True)
            self.live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.live is not None:
            self.live.stop()

    def event(self, event: Event) -> None:
        """A step has begun, is done, or has failed."""
        if self.quiet:
            return
        step = event.step
        self.rows[step.host] = (event.state, step.title, time.monotonic())
        if event.state == "start":
            return
        word = "" if event.state == "done" else click.style("failed  ", fg="red")
        line = f"{time.monotonic() - self.begin:7.1f} s  {step.host:<10} {word}{step.title} ({event.seconds:.1f} s)"
        if self.live is not None:
            from rich.text import Text

            self.live.console.print(Text.from_ansi(line))
        else:
            click.echo(line, err=True)

    def render(self) -> Any:
        """The devices that are being worked on now, a line each."""
        from rich.spinner import Spinner
        from rich.table import Table

        table = Table.grid(padding=(0, 1))
        for host, (state, title, since) in self.rows.items():
            if state == "start":
                table.add_row(Spinner("dots"), host, title, f"{time.monotonic() - since:.0f} s")
        return table
