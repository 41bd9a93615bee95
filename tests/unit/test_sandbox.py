"""The sandbox, as far as it can be tried without being root: what it mounts where, and how a tool's end is told."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from cumulet_builder import sandbox


@pytest.fixture
def mounts(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, str]]:
    """(source, target, kind) of every mount; nothing is mounted."""
    seen: list[tuple[str, str, str]] = []
    monkeypatch.setattr(
        sandbox, "mount", lambda source, target, kind="", flags=0, data="": seen.append((source, target, kind))
    )
    return seen


def test_a_mount_that_fails_names_its_target(tmp_path: Path) -> None:
    target = str(tmp_path / "none")
    with pytest.raises(OSError, match="mount: ") as caught:
        sandbox.bind("/usr", target)
    assert caught.value.filename == target
    with pytest.raises(OSError, match="umount: ") as caught:
        sandbox.unmount(target)
    assert caught.value.filename == target


def test_a_place_is_made_for_what_is_shown(tmp_path: Path, mounts: list[tuple[str, str, str]]) -> None:
    (tmp_path / "file").touch()
    sandbox.bind_new(str(tmp_path / "file"), str(tmp_path / "a/b/file"))
    sandbox.bind_new(str(tmp_path), str(tmp_path / "a/folder"))
    sandbox.bind_new(str(tmp_path), str(tmp_path / "a/folder"))
    assert (tmp_path / "a/b/file").is_file()
    assert (tmp_path / "a/folder").is_dir()
    assert [target for _, target, _ in mounts] == [
        f"{tmp_path}/a/b/file", f"{tmp_path}/a/folder", f"{tmp_path}/a/folder"
    ]  # fmt: skip


def test_a_root_gets_devices_processes_and_a_fresh_tmp(tmp_path: Path, mounts: list[tuple[str, str, str]]) -> None:
    sandbox.mount_system(str(tmp_path))
    assert [(target.removeprefix(str(tmp_path)), kind) for _, target, kind in mounts if kind] == [
        ("/dev", "tmpfs"), ("/proc", "proc"), ("/tmp", "tmpfs")
    ]  # fmt: skip
    shown = {target.removeprefix(f"{tmp_path}/dev/") for source, target, kind in mounts if not kind}
    assert shown == {"null", "zero", "full", "random", "urandom", "tty"}
    assert str((tmp_path / "dev/stdin").readlink()) == "fd/0"


def test_where_no_proc_may_be_mounted_ours_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
        if kind == "proc":
            raise PermissionError
        seen.append((source, target))

    monkeypatch.setattr(sandbox, "mount", mount)
    sandbox.mount_system(str(tmp_path))
    assert ("/proc", f"{tmp_path}/proc") in seen


PROGRAM = """
import sys
from cumulet_builder import sandbox
sandbox.make_private = lambda: None
sandbox.enter_tools = lambda root, folders, cwd: print(root, folders, cwd, flush=True)
sys.exit(sandbox.main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("command", "code", "err"),
    [
        (["true"], 0, ""),
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -9 $$"], 137, ""),
        (["no-such-tool"], 127, "no-such-tool: No such file or directory\n"),
    ],
)
def test_the_end_of_a_tool_is_the_end_of_its_sandbox(command: list[str], code: int, err: str) -> None:
    spec = json.dumps({"root": "/r", "folders": ["/f"], "cwd": "/f"})
    words = [sys.executable, "-c", PROGRAM, spec, "--", *command]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (code, "/r ['/f'] /f\n", err)
