"""The command line: commands in a table, and the one place that prints errors and decides exit codes.

The build tool adds its own commands to those of the SDK; on a device there are only the SDK's.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from cumulet import __version__
from cumulet.core.errors import CumuletError, ToolError, UsageError

# Where a device keeps what is to be sent with a report: it survives a reboot.
LOGS = Path("/var/lib/cumulet/logs")
BUG, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


@dataclass(frozen=True)
class Entry:
    """A command of the table: where its code is, and its line in `cumulet --help`."""

    target: str
    help: str


@dataclass(frozen=True)
class Program:
    """A command line: its group, the group's table, and the folder for tracebacks of bugs."""

    group: click.Group
    table: Mapping[str, Entry]
    find_logs: Callable[[], Path]


# Nothing here is imported before it is called, so that --help is fast.
SDK_COMMANDS = {
    "site": Entry("cumulet.site.commands:site", "Several devices as one cluster, from one file."),
    "task": Entry("cumulet.tasks.commands:task", "AI tasks: what they need, and on which nodes they go."),
    "super": Entry("cumulet.supercontainer.commands:command", "A task on several whole nodes, and its one result."),
    "model": Entry("cumulet.models.commands:model", "Models: signed images, carried once, switched safely."),
    "load": Entry("cumulet.monitor.commands:load", "How busy a site has been, and when it will be quietest."),
    "selftest": Entry("cumulet.inference.commands:selftest", "Test the inference runtimes of this computer."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called. `table`: command name -> where it is."""

    def __init__(self, *words: Any, table: Mapping[str, Entry], **options: Any) -> None:
        super().__init__(*words, **options)
        self.table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the table, in its order."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of this name."""
        entry = self.table.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in the help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, but an unknown name comes with the nearest known one."""
        if args[0] not in self.table and not args[0].startswith("-"):
            near = get_close_matches(args[0], self.table, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "cumulet --help"
            raise UsageError(f"no such command: {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, table=SDK_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="cumulet %(version)s")
def cumulet() -> None:
    """Look after this device and its site."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the device's command line and return the exit code."""
    return run_program(Program(cumulet, SDK_COMMANDS, lambda: LOGS), argv)


def run_program(program: Program, argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code. Prints every error, and nothing else does."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        with _interrupted_by_sigterm():
            _invoke(program.group, words)
            sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read our output has left. Nothing more may be written, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        _print_error(CumuletError("interrupted"), INTERRUPTED, as_json)
        return INTERRUPTED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else BUG if ended.code else 0
    except Exception as error:
        expected = _expected(error, words, program.table)
        if expected is None:
            expected = CumuletError(
                f"this is a bug in cumulet: {_one_line(error)}", hint=_keep_traceback(error, program.find_logs)
            )
        _print_error(expected, expected.exit_code, as_json)
        return expected.exit_code
    return 0


def _invoke(group: click.Group, words: list[str]) -> None:
    # Not click's own main(): that one prints errors itself and ends the process.
    try:
        with group.make_context("cumulet", words or ["--help"]) as context:
            group.invoke(context)
    except click.exceptions.Exit as ended:
        sys.exit(ended.exit_code)


@contextlib.contextmanager
def _interrupted_by_sigterm() -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _expected(error: Exception, words: Sequence[str], table: Mapping[str, Entry]) -> CumuletError | None:
    """The error as one of ours, or None if nobody expected it."""
    if isinstance(error, CumuletError):
        return error
    if isinstance(error, click.ClickException):
        return _from_click(error, words, table)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        from cumulet.core.files import raise_os_error  # noqa: PLC0415  (--help has no use for it)

        try:
            raise_os_error(error, Path(error.filename or "this computer"))
        except ToolError as known:
            return known
    return None


def _from_click(error: click.ClickException, words: Sequence[str], table: Mapping[str, Entry]) -> UsageError:
    context = getattr(error, "ctx", None)
    called = ["cumulet", *(word for word in words[:1] if word in table)]
    hint = f"{context.command_path if context is not None else ' '.join(called)} --help"
    near = getattr(error, "possibilities", None)
    if near:
        hint = f"did you mean {next(iter(near))!r}?"
    text = error.message if near else error.format_message()
    text = " ".join(text.split()).removesuffix(".")
    return UsageError(f"{text[:1].lower()}{text[1:]}", hint=hint)


def _print_error(error: CumuletError, code: int, as_json: bool) -> None:
    problems = getattr(error, "problems", ())
    if as_json:
        answer: dict[str, Any] = {"message": error.message, "hint": error.hint, "exit_code": code}
        answer["problems"] = [asdict(problem) for problem in problems]
        click.echo(json.dumps({"error": answer}), err=True)
        return
    lines = [f"{_paint('error:', 'red')} {error.message}"]
    if len(problems) > 1:
        lines += [f"  {line}" for problem in problems for line in str(problem).splitlines()]
    if error.hint:
        lines.append(f"{_paint('hint:', 'cyan')} {error.hint}")
    with contextlib.suppress(OSError):
        click.echo("\n".join(lines), err=True, color=True)


def _paint(word: str, colour: str) -> str:
    want = sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return click.style(word, fg=colour, bold=True) if want else word


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _keep_traceback(error: Exception, find_logs: Callable[[], Path]) -> str:
    """Write the traceback where it can be sent from; says where that is."""
    text = "".join(traceback.format_exception(error))
    path = find_logs() / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"cumulet {__version__}, Python {sys.version}\n{sys.argv}\n\n{text}")
    except OSError:
        return text
    return f"please report it, with {path}"


if __name__ == "__main__":
    sys.exit(main())
