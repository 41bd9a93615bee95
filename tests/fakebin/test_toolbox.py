"""Tools in their sandbox: what they are told, where their words go, and how their end is told."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder import toolbox
from cumulet_builder.toolbox import Toolbox, make_namespace, raise_failure, remove_tree

Fake = Callable[[str, str], Path]
# Instead of namespaces: note the spec of the sandbox, then run the tool as it is.
NAMESPACE = """
while [ $# -gt 0 ]; do
    case $1 in */sandbox.py) printf '%s' "$2" > {spec}; shift 3; exec "$@" ;; esac
    shift
done
exit 99
"""


@pytest.fixture
def tools(fake: Fake, tmp_path: Path) -> Toolbox:
    fake("setpriv", NAMESPACE.format(spec=tmp_path / "spec"))
    return Toolbox(tmp_path / "tools")


def test_a_tool_sees_only_its_folders_at_their_own_paths_and_works_in_the_first(
    tools: Toolbox, fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("mktool", 'echo "$TZ $TMPDIR $MORE $*"; cat')
    (tmp_path / "link").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path)
    result = tools.run(["mktool", "a b"], folders=[Path("link"), Path("/usr")], env={"MORE": "x"}, input="in")
    assert result.out == "UTC /tmp x a b\nin"
    assert result.argv == ("mktool", "a b")
    spec = json.loads((tmp_path / "spec").read_text())
    assert spec == {
        "root": str(tmp_path / "tools"),
        "folders": [str(tmp_path / "link"), "/usr"],
        "cwd": str(tmp_path / "link"),
    }
    tools.run(["mktool"])
    assert json.loads((tmp_path / "spec").read_text())["cwd"] == "/"


def test_the_log_has_the_tool_and_not_how_it_was_started(tools: Toolbox, fake: Fake) -> None:
    fake("mktool", "echo out; echo err >&2")
    log = io.StringIO()
    tools.run(["mktool", "a b"], log=log)
    assert log.getvalue() == "+ mktool 'a b'\nout\nerr\n"


def test_a_tool_that_fails_is_named_with_its_last_line(tools: Toolbox, fake: Fake, tmp_path: Path) -> None:
    fake("mktool", "echo working; echo 'cannot do it' >&2; exit 4")
    log = io.StringIO()
    with pytest.raises(ToolError) as caught:
        tools.run(["mktool"], folders=[tmp_path], log=log)
    assert caught.value.message == "mktool exited with code 4: cannot do it"
    assert caught.value.hint == "its whole output is in the build log"
    assert "working\ncannot do it" in log.getvalue()
    assert tools.run(["mktool"], check=False).code == 4


@pytest.mark.parametrize(
    ("out", "err"), [("", "mktool: write: No space left on device\n"), ("No space left on device", "other words")]
)
def test_a_full_disk_is_named_whatever_the_tool_says_around_it(tmp_path: Path, out: str, err: str) -> None:
    with pytest.raises(ToolError) as caught:
        raise_failure(proc.Result(("/usr/bin/mktool",), 1, out, err), tmp_path)
    assert caught.value.message == f"{tmp_path}: no space left on this disk"
    assert "--cache" in caught.value.hint


def test_a_folder_that_is_not_there_yet_hides_no_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"^cp exited with code 1: cp: cannot stat 'x'$"):
        raise_failure(proc.Result(("cp",), 1, "", "cp: cannot stat 'x'\n"), tmp_path / "none/yet")


def test_root_needs_no_user_namespace_and_everybody_else_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolbox.os, "geteuid", lambda: 0)
    as_root = make_namespace()
    monkeypatch.setattr(toolbox.os, "geteuid", lambda: 1000)
    as_user = make_namespace()
    assert "--user" not in as_root
    assert as_user == [*as_root, "--user", "--map-root-user", "--map-auto"]
    assert {"--mount", "--pid", "--kill-child", "--net"} <= set(as_root)


def test_a_folder_that_only_a_namespace_can_remove_is_removed_there(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake("setpriv", f'echo "$*" > {tmp_path}/words')
    (tmp_path / "mine").mkdir()
    remove_tree(tmp_path / "mine")
    remove_tree(tmp_path / "mine")
    assert not (tmp_path / "words").exists()
    monkeypatch.setattr(toolbox.shutil, "rmtree", lambda *_, **__: None)
    (tmp_path / "other").mkdir()
    remove_tree(tmp_path / "other")
    assert (tmp_path / "words").read_text().rstrip().endswith(f" rm -rf {tmp_path}/other")


def test_tools_inherit_nothing_of_who_builds(tools: Toolbox, fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake("mktool", "env")
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    lines = tools.run(["mktool"]).out.splitlines()
    assert "TZ=UTC" in lines
    assert "LC_ALL=C.UTF-8" in lines
    assert not [line for line in lines if line.startswith("SOURCE_DATE_EPOCH")]
    assert os.environ["TZ"] == "Asia/Tokyo"
