"""Starting programs: what they may know, how their end is told, and that they do not outlive us."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError

Fake = Callable[[str, str], Path]


def test_a_program_knows_only_what_is_on_the_list(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("tool", "env")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    lines = proc.run(["tool"], env={"MORE": "y"}).out.splitlines()
    assert {"LANG=C.UTF-8", "LC_ALL=C.UTF-8", "MORE=y", "https_proxy=http://127.0.0.1:1"} <= set(lines)
    assert [line for line in lines if line.startswith(("SECRET", "LD_"))] == []


def test_the_system_folders_are_searched_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/a:/usr/sbin")
    assert proc.make_environment()["PATH"] == "/a:/usr/sbin:/usr/local/sbin:/sbin"
    monkeypatch.delenv("PATH")
    assert proc.make_environment()["PATH"].startswith("/usr/local/bin:/usr/bin:/bin:")


def test_words_are_never_read_by_a_shell(fake: Fake) -> None:
    fake("tool", 'printf "%s\\n" "$@"')
    words = ["a b", "$HOME", "; exit 1", "*", ""]
    assert proc.run(["tool", *words]).out.splitlines() == words


def test_a_program_gets_its_input_and_else_none(fake: Fake) -> None:
    fake("tool", "cat")
    assert proc.run(["tool"], input="hello").out == "hello"
    assert proc.run(["tool"]).out == ""


def test_output_that_is_not_text_is_no_error(fake: Fake) -> None:
    fake("tool", r"printf 'a\377b'")
    assert proc.run(["tool"]).out == "a\ufffdb"


def test_with_a_log_both_outputs_and_the_command_are_in_it(fake: Fake, tmp_path: Path) -> None:
    fake("tool", "echo out; echo err >&2")
    with (tmp_path / "log").open("w") as log:
        result = proc.run(["tool", "a b"], log=log)
    assert (tmp_path / "log").read_text() == "+ tool 'a b'\nout\nerr\n"
    assert (result.out, result.err) == ("", "")


def test_an_exit_code_is_an_error_with_the_last_lines_and_the_command(fake: Fake) -> None:
    fake("tool", "seq 30 >&2; exit 7")
    with pytest.raises(ToolError) as caught:
        proc.run(["tool", "a b"])
    assert caught.value.message.splitlines() == ["tool exited with code 7", *map(str, range(11, 31))]
    assert caught.value.hint == "the command was: tool 'a b'"
    assert proc.run(["tool"], check=False).code == 7


def test_an_error_without_words_shows_what_was_printed(fake: Fake) -> None:
    fake("tool", "echo only this; exit 1")
    with pytest.raises(ToolError, match=r"^tool exited with code 1\nonly this$"):
        proc.run(["tool"])
    fake("tool", "exit 1")
    with pytest.raises(ToolError, match=r"^tool exited with code 1$"):
        proc.run(["tool"])


def test_a_death_by_signal_is_named(fake: Fake) -> None:
    fake("tool", "kill -9 $$")
    with pytest.raises(ToolError, match=r"^tool was killed by SIGKILL$"):
        proc.run(["tool"])
    assert proc.describe_exit(-99) == "was killed by signal 99"


def test_a_missing_program_is_named_with_who_knows_the_package(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        proc.run(["no-such-program", "x"])
    assert caught.value.message == "no-such-program: no such program on this computer"
    assert caught.value.hint == "cumulet doctor"
    (tmp_path / "tool").write_text("not a program")
    with pytest.raises(ToolError, match="tool: cannot be started: Permission denied"):
        proc.run([tmp_path / "tool"])


def wait_for(path: Path) -> str:
    for _ in range(500):
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text().strip()
        time.sleep(0.01)
    pytest.fail(f"{path} does not appear")


def is_gone(number: str) -> bool:
    """Whether a process ends soon, if it has not ended yet."""
    for _ in range(500):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("error", [KeyboardInterrupt(), proc.subprocess.TimeoutExpired("tool", 7)])
def test_a_program_is_ended_with_its_children_by_an_interrupt_and_when_it_takes_too_long(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def communicate(*_: object, **__: object) -> object:
        wait_for(tmp_path / "child")
        raise error

    fake("tool", f"sleep 60 & echo $! > {tmp_path}/child; wait")
    monkeypatch.setattr(proc.subprocess.Popen, "communicate", communicate)
    with pytest.raises((KeyboardInterrupt, ToolError)):
        proc.run(["tool"], timeout=7)
    assert is_gone(wait_for(tmp_path / "child"))


def test_a_program_that_takes_too_long_is_named_with_its_time(fake: Fake) -> None:
    fake("tool", "sleep 60")
    with pytest.raises(ToolError) as caught:
        proc.run(["tool", "a b"], timeout=0.05)
    assert caught.value.message == "tool: not done within 0 s"
    assert caught.value.hint == "tool 'a b'"


def test_who_ignores_the_polite_signal_gets_the_other(fake: Fake, tmp_path: Path) -> None:
    fake("tool", f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 60; done")
    process = proc.spawn(["tool"])
    wait_for(tmp_path / "pid")
    assert proc.stop(process, grace=0.1) == -signal.SIGKILL
    assert proc.stop(process) == -signal.SIGKILL


def test_a_spawned_program_leads_its_own_group_and_stops_politely(fake: Fake, tmp_path: Path) -> None:
    fake("tool", f"trap 'exit 3' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.01; done")
    process = proc.spawn(["tool"])
    wait_for(tmp_path / "pid")
    assert os.getpgid(process.pid) == process.pid != os.getpgrp()
    assert proc.stop(process) == 3
