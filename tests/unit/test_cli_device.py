"""The command of a device: what it offers, from where, and that its help is quick."""

from __future__ import annotations

import importlib
import subprocess
import sys
import textwrap

import click
import pytest

from cumulet.cli import SDK_COMMANDS, main
from cumulet_builder.cli import COMMANDS

# What a command may be slow to import, and its help must not.
HEAVY = ("pydantic", "yaml", "jinja2", "httpx", "asyncssh", "cryptography", "asyncio")


@pytest.mark.parametrize("name", ["site", "task", "super", "model", "load", "selftest"])
def test_a_device_has_the_commands_of_whoever_runs_a_site(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _, attribute = SDK_COMMANDS[name].target.partition(":")
    assert isinstance(getattr(importlib.import_module(module), attribute), click.Command)
    assert main([name, "--help"]) == 0
    assert f"Usage: cumulet {name} " in capsys.readouterr().out


def test_the_build_tool_has_the_same_commands_from_the_same_place() -> None:
    assert {name: COMMANDS[name] for name in SDK_COMMANDS} == SDK_COMMANDS
    assert all(entry.target.startswith("cumulet.") for entry in SDK_COMMANDS.values())


def test_help_imports_nothing_that_a_command_needs() -> None:
    code = f"""
    import sys
    from cumulet.cli import main
    main(["--help"])
    sys.exit(", ".join(name for name in {HEAVY!r} if name in sys.modules) or 0)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()[-len(SDK_COMMANDS) :]] == list(SDK_COMMANDS)


def test_the_commands_of_a_device_import_nothing_of_the_build_tool() -> None:
    code = f"""
    import importlib, sys
    sys.modules["cumulet_builder"] = sys.modules["cumulet_qemu"] = None
    for entry in {[entry.target.partition(":")[0] for entry in SDK_COMMANDS.values()]!r}:
        importlib.import_module(entry)
    """
    words = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(words, capture_output=True, text=True, timeout=60, check=False).stderr == ""
