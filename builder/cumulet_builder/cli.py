"""The command `cumulet`: the table of commands, and the one place that prints errors and decides exit codes."""

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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from cumulet import __version__
from cumulet.core.errors import CumuletError, ToolError, UsageError

BUG, INTERRUPTED, BROKEN_PIPE = 1, 130, 141


@dataclass(frozen=True)
class Entry:
    """A command of the table: where its code is, and its line in `cumulet --help`."""

    target: str
    help: str


# Nothing here is imported before it is called, so that --help is fast.
COMMANDS = {
    "build": Entry("cumulet_builder.commands.build:build", "Build the image of a recipe."),
    "plan": Entry("cumulet_builder.commands.build:plan", "Show which stages a build would run, and why."),
    "lock": Entry("cumulet_builder.commands.build:lock", "Write a lock, so that every later build is identical."),
    "vendor": Entry("cumulet_builder.commands.build:vendor", "Keep everything that a lock names in a local store."),
    "boot": Entry("cumulet_builder.commands.boot:command", "Start an image in QEMU."),
    "test": Entry("cumulet_builder.commands.test:command", "Boot an image in QEMU and check what its recipe promises."),
    "flash": Entry("cumulet_builder.commands.flash:command", "Write an image to a device, checked before and after."),
    "site": Entry("cumulet_builder.commands.site:site", "Several devices as one cluster, from one file."),
    "lab": Entry("cumulet_builder.commands.lab:lab", "Nodes as system containers on this computer."),
    "hub": Entry("cumulet_builder.commands.hub:hub", "The place that sites register at."),
    "agent": Entry("cumulet_builder.commands.agent:agent", "What a cluster runs to be under a hub."),
    "task": Entry("cumulet_builder.commands.task:task", "AI tasks: what they need, and on which nodes they go."),
    "super": Entry("cumulet_builder.commands.super:command", "A task on several whole nodes, and its one result."),
    "model": Entry("cumulet_builder.commands.model:model", "Models: signed images, carried once, switched safely."),
    "load": Entry("cumulet_builder.commands.load:load", "How busy a site has been, and when it will be quietest."),
    "package": Entry("cumulet_builder.commands.package:package", "Publish packages for sites, signed."),
    "show": Entry("cumulet_builder.commands.show:command", "Print a recipe with everything merged and filled in."),
    "why": Entry("cumulet_builder.commands.why:command", "Tell why a file, package or kernel module is in an image."),
    "kas": Entry("cumulet_builder.commands.kas:command", "Print the kas document of a recipe, for Yocto."),
    "parity": Entry("cumulet_builder.commands.parity:command", "Tell which engine builds which feature."),
    "new": Entry("cumulet_builder.commands.new:command", "Start a recipe of your own."),
    "boards": Entry("cumulet_builder.commands.boards:boards", "List the boards, and what is known about them."),
    "board": Entry("cumulet_builder.commands.boards:board", "Look at one board."),
    "recipes": Entry("cumulet_builder.commands.recipes:command", "List bundled boards, images and features."),
    "doctor": Entry("cumulet_builder.commands.doctor:command", "Tell what this computer lacks, and what fixes it."),
    "pin": Entry("cumulet_builder.commands.pin:pin", "Write the checksums of a release of k3s into its pin."),
    "schema": Entry("cumulet_builder.commands.schema:command", "Print the JSON Schema of recipe files, for editors."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names in the table, in its order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; None if there is none of this name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        module, _, name = entry.target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands in the help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Like click's, but an unknown name comes with the nearest known one."""
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "cumulet --help"
            raise UsageError(f"no such command: {args[0]!r}", hint=hint)
        return super().resolve_command(ctx, args)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="cumulet %(version)s")
def cumulet() -> None:
    """Build, check and boot Linux images for phone-class boards.

    Start with: cumulet build qemu-arm64
    """


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code. Prints every error, and nothing else does."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words
    try:
        with _interrupted_by_sigterm():
            _invoke(words)
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
        expected = _expected(error, words)
        if expected is None:
            expected = CumuletError(f"this is a bug in cumulet: {_one_line(error)}", hint=_keep_traceback(error))
        _print_error(expected, expected.exit_code, as_json)
        return expected.exit_code
    return 0


def _invoke(words: list[str]) -> None:
    # Not click's own main(): that one prints errors itself and ends the process.
    try:
        with cumulet.make_context("cumulet", words or ["--help"]) as context:
            cumulet.invoke(context)
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


def _expected(error: Exception, words: Sequence[str]) -> CumuletError | None:
    """The error as one of ours, or None if nobody expected it."""
    if isinstance(error, CumuletError):
        return error
    if isinstance(error, click.ClickException):
        return _from_click(error, words)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS):
        from cumulet.core.files import raise_os_error  # noqa: PLC0415  (--help has no use for it)

        try:
            raise_os_error(error, Path(error.filename or "this computer"))
        except ToolError as known:
            return known
    return None


def _from_click(error: click.ClickException, words: Sequence[str]) -> UsageError:
    context = getattr(error, "ctx", None)
    called = ["cumulet", *(word for word in words[:1] if word in COMMANDS)]
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


def _keep_traceback(error: Exception) -> str:
    """Write the traceback where it can be sent from; says where that is."""
    from cumulet_builder.cache import default_root  # noqa: PLC0415  (--help has no use for it)

    text = "".join(traceback.format_exception(error))
    path = default_root() / "logs" / f"bug-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"cumulet {__version__}, Python {sys.version}\n{sys.argv}\n\n{text}")
    except OSError:
        return text
    return f"please report it, with {path}"


if __name__ == "__main__":
    sys.exit(main())
