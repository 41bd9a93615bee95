"""The command line: lazy commands, one place for errors, exit codes by class."""

from __future__ import annotations

import importlib
import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from cumulet import __version__
from cumulet.core.errors import CumuletError, Problem, TargetError, ToolError, UsageError
from cumulet_builder import cli
from cumulet_builder.cli import COMMANDS, main

Write = Callable[[str, str], Path]
Fake = Callable[[Callable[[], object]], list[str]]
HEAVY = ("pydantic", "rich", "httpx", "jinja2", "yaml")


@pytest.fixture
def fake(here: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Make `cumulet fake` run a function; gives the words to call it with."""

    def put(body: Callable[[], object]) -> list[str]:
        @click.command()
        @click.option("--json", "as_json", is_flag=True)
        def command(as_json: bool) -> None:
            body()

        monkeypatch.setattr(cli, "fake_command", command, raising=False)
        monkeypatch.setitem(COMMANDS, "fake", cli.Entry("cumulet_builder.cli:fake_command", "For tests."))
        return ["fake"]

    return put


def raising(error: BaseException) -> Callable[[], object]:
    def body() -> object:
        raise error

    return body


# The table and what is imported for it.


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_table_is_there(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, attribute = COMMANDS[name].target.partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
    assert COMMANDS[name].help.endswith(".")
    assert main([name, "--help"]) == 0
    assert f"Usage: cumulet {name} " in capsys.readouterr().out


@pytest.mark.parametrize("words", [["--help"], ["-h"], []])
def test_help_has_one_line_per_command(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    for name, entry in COMMANDS.items():
        assert f"  {name:<9}{entry.help}" in out.splitlines() or f"  {name}" in out
    assert "Start with: cumulet build qemu-arm64" in out


def test_help_fits_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    assert main(["--help"]) == 0
    # click never goes below 50 columns.
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 50


def run_python(code: str, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", textwrap.dedent(code), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("words", ["[]", "['--help']", "['--version']", "['biuld']"])
def test_help_imports_nothing_heavy(words: str) -> None:
    done = run_python(
        f"""
        import sys
        from cumulet_builder.cli import main
        main({words})
        heavy = {HEAVY!r}
        own = [name for name in sys.modules if name.startswith("cumulet_builder.commands")]
        sys.exit(", ".join([name for name in heavy if name in sys.modules] + own) or 0)
        """
    )
    assert done.returncode == 0, done.stderr


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"cumulet {__version__}\n"


# Errors.


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (UsageError("the recipe is wrong", hint="look at it"), 2, "error: the recipe is wrong\nhint: look at it\n"),
        (ToolError("no QEMU here"), 3, "error: no QEMU here\n"),
        (TargetError("the image does not boot"), 4, "error: the image does not boot\n"),
        (
            UsageError("a.yaml:1:1: x", hint="y", problems=[Problem("a.yaml", 1, 1, "x", "y")]),
            2,
            "error: a.yaml:1:1: x\nhint: y\n",
        ),
        (
            UsageError("2 problems", problems=[Problem("a.yaml", 1, 1, "x", "y"), Problem("--set b", 0, 0, "z")]),
            2,
            "error: 2 problems\n  a.yaml:1:1: x\n    y\n  --set b: z\n",
        ),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (click.Abort(), 130, "error: interrupted\n"),
        (OSError(28, "No space left on device", "/x/y"), 3,
         "error: /x/y: no space left on this disk\nhint: free some space, or name another folder: --cache, --out\n"),
        (PermissionError(13, "Permission denied", "/x/y"), 3, "error: /x/y: Permission denied\n"),
    ],
)  # fmt: skip
def test_errors_by_class(
    fake: Fake, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, text: str
) -> None:
    assert main(fake(raising(error))) == code
    assert capsys.readouterr() == ("", text)


def test_errors_as_json(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("a.yaml", 1, 2, "x", "y")
    assert main([*fake(raising(UsageError("bad", hint="look", problems=[problem]))), "--json"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert json.loads(err) == {
        "error": {
            "message": "bad",
            "hint": "look",
            "exit_code": 2,
            "problems": [{"file": "a.yaml", "line": 1, "column": 2, "message": "x", "hint": "y"}],
        }
    }


def test_an_interrupt_as_json(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*fake(raising(KeyboardInterrupt())), "--json"]) == 130
    assert json.loads(capsys.readouterr().err)["error"] == {
        "message": "interrupted",
        "hint": "",
        "exit_code": 130,
        "problems": [],
    }


def test_a_bug_leaves_its_traceback_in_a_file(fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(fake(raising(ZeroDivisionError("no\nway")))) == 1
    out, err = capsys.readouterr()
    (log,) = (tmp_path / "cache" / "cumulet" / "logs").glob("bug-*.txt")
    assert out == ""
    assert err == f"error: this is a bug in cumulet: ZeroDivisionError: no way\nhint: please report it, with {log}\n"
    text = log.read_text()
    assert "Traceback (most recent call last):" in text
    assert text.startswith(f"cumulet {__version__}, Python {sys.version}")


def test_a_bug_without_a_place_for_its_log_is_printed(
    fake: Fake, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "cache").write_text("not a folder")
    assert main(fake(raising(ZeroDivisionError("x")))) == 1
    err = capsys.readouterr().err
    assert err.startswith("error: this is a bug in cumulet: ZeroDivisionError: x\nhint: Traceback")


def test_the_base_class_is_a_bug_of_code_one(fake: Fake) -> None:
    assert main(fake(raising(CumuletError("x")))) == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["biuld"], "error: no such command: 'biuld'\nhint: did you mean 'build'?\n"),
        (["zzzzzz"], "error: no such command: 'zzzzzz'\nhint: cumulet --help\n"),
        (["--hlep"], "error: no such option '--hlep'\nhint: did you mean '--help'?\n"),
        (["--zzzzzz"], "error: no such option '--zzzzzz'\nhint: cumulet --help\n"),
        (["show"], "error: missing argument 'RECIPE'\nhint: cumulet show --help\n"),
        (["show", "--orgin", "x"], "error: no such option '--orgin'\nhint: did you mean '--origin'?\n"),
        (["show", "a", "b"], "error: got unexpected extra argument (b)\nhint: cumulet show --help\n"),
        (["show", "a", "--set"], "error: option '--set' requires an argument\nhint: cumulet show --help\n"),
        (
            ["schema", "--kind", "x"],
            "error: invalid value for '--kind': 'x' is not one of 'recipe', 'board', 'feature'\n"
            "hint: cumulet schema --help\n",
        ),
    ],
)
def test_usage_errors_of_click_look_like_ours(
    here: Path, capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    assert main(words) == 2
    assert capsys.readouterr() == ("", text)


def test_exit_codes_of_commands_are_kept(fake: Fake) -> None:
    assert main(fake(raising(SystemExit(7)))) == 7
    assert main(fake(raising(SystemExit(None)))) == 0
    assert main(fake(raising(click.exceptions.Exit(5)))) == 5


# Colour.


@pytest.mark.parametrize(
    ("terminal", "env", "colour"),
    [
        (True, {}, True),
        (False, {}, False),
        (True, {"NO_COLOR": "1"}, False),
        (True, {"NO_COLOR": ""}, True),
        (True, {"TERM": "dumb"}, False),
    ],
)
def test_colour_only_on_terminals(
    fake: Fake,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    env: dict[str, str],
    colour: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    main(fake(raising(UsageError("x", hint="y"))))
    err = capsys.readouterr().err
    assert ("\x1b[" in err) is colour
    assert click.unstyle(err) == "error: x\nhint: y\n"


# Signals and pipes.

SLOW = """
import sys, time
import click
from cumulet_builder import cli

@click.command()
def slow():
    try:
        print("started", flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", flush=True)

cli.slow = slow
cli.COMMANDS["slow"] = cli.Entry("cumulet_builder.cli:slow", "For tests.")
sys.exit(cli.main(["slow"]))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_end_a_command_with_130_and_let_it_clean_up(number: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "cleaned up\n", "error: interrupted\n")


def test_the_handler_of_sigterm_is_put_back(here: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    main(["--version"])
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_reader_that_leaves_is_no_error() -> None:
    code = """
    import sys
    import click
    from cumulet_builder import cli

    @click.command()
    def chatty():
        for number in range(100_000):
            click.echo(f"line {number}")

    cli.chatty = chatty
    cli.COMMANDS["chatty"] = cli.Entry("cumulet_builder.cli:chatty", "For tests.")
    sys.exit(cli.main(["chatty"]))
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141
