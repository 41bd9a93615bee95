"""What a person sees of a build."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cumulet_builder.commands import progress
from cumulet_builder.commands.progress import Lines
from cumulet_builder.download import Progress
from cumulet_builder.plan import Stage, Step

Capture = pytest.CaptureFixture[str]
HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
STEP = Step(Stage("kernel", {}, lambda workshop: None), "k", True, "changed: code")


def test_stages_are_told_on_stderr_so_that_stdout_stays_the_answer(capsys: Capture) -> None:
    lines = Lines()
    lines.say("edge: lock: new")
    lines.step(STEP, -1)
    lines.step(STEP, 2.345)
    assert capsys.readouterr() == ("", "edge: lock: new\n  kernel       changed: code ...\n  kernel       2.3 s\n")


def test_nothing_is_told_where_an_answer_in_json_was_asked_for(capsys: Capture) -> None:
    with Lines(quiet=True) as lines:
        lines.say("x")
        lines.step(STEP, -1)
        assert lines.download() is None
    assert capsys.readouterr() == ("", "")


def test_without_a_terminal_a_download_is_a_line_for_each_tenth(capsys: Capture) -> None:
    told = Lines().download()
    assert told is not None
    for done in range(0, 20_000_001, 500_000):
        told(Progress(done, 20_000_000, 0, 2, "a.deb"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 11
    assert (lines[0], lines[3], lines[-1]) == (
        "  downloading  0% (0 of 20 MB)",
        "  downloading  30% (6 of 20 MB)",
        "  downloading  100% (20 of 20 MB)",
    )


def test_a_download_of_unknown_size_is_no_division_by_nothing(capsys: Capture) -> None:
    told = Lines().download()
    assert told is not None
    told(Progress(5, None, 0, 1, "a"))
    told(Progress(0, 0, 0, 1, "a"))
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal gets."""
    stream = io.StringIO()
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress, "_console", lambda: Console(file=stream, force_terminal=True, width=80))
    return stream


def test_on_a_terminal_a_bar_comes_and_goes_with_the_last_file(screen: io.StringIO) -> None:
    lines = Lines()
    told = lines.download()
    assert told is not None
    told(Progress(1_000_000, 10_000_000, 0, 1, "a"))
    assert lines.bar is not None
    told(Progress(10_000_000, 10_000_000, 1, 1, "a"))
    assert lines.bar is None
    assert "downloading" in screen.getvalue()
    assert screen.getvalue().rfind(SHOW) > screen.getvalue().rfind(HIDE) >= 0


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_download_that_breaks_gives_the_cursor_back(screen: io.StringIO, error: type[BaseException]) -> None:
    with pytest.raises(error), Lines() as lines:
        told = lines.download()
        assert told is not None
        told(Progress(1_000_000, None, 0, 1, "a"))
        raise error
    assert lines.bar is None
    assert screen.getvalue().rfind(SHOW) > screen.getvalue().rfind(HIDE) >= 0


def test_a_stage_ends_the_bar_before_it_speaks(screen: io.StringIO, capsys: Capture) -> None:
    lines = Lines()
    told = lines.download()
    assert told is not None
    told(Progress(1, 10, 0, 1, "a"))
    lines.step(STEP, -1)
    assert lines.bar is None
    assert "kernel" in capsys.readouterr().err
