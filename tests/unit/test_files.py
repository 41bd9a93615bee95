"""Files and folders that are whole or not there, locks, and what an error of the disk is told as."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from cumulet.core import files
from cumulet.core.errors import ToolError
from cumulet.core.files import locked, publishing, raise_os_error, sha256_file, sha256_text, write_text, writing


class KilledError(BaseException):
    """Stands for everything that ends a program and is no Exception."""


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def full(*_: object) -> NoReturn:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_digests_are_sha256_in_hex(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes("é".encode())
    assert sha256_file(tmp_path / "a") == sha256_text("é") == hashlib.sha256("é".encode()).hexdigest()


# One file.


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new/folder/a"
    with writing(path) as stream:
        stream.write(b"half")
        assert not path.exists()
        stream.write(b" and half")
    assert path.read_bytes() == b"half and half"
    assert path.stat().st_mode & 0o777 == 0o644
    assert listing(path.parent) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, KilledError])
def test_the_old_file_stays_when_the_new_one_is_not_finished(tmp_path: Path, error: type[BaseException]) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(error), writing(tmp_path / "a") as stream:
        stream.write(b"half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert listing(tmp_path) == ["a"]


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(ToolError) as caught:
        write_text(tmp_path / "a", "new")
    assert caught.value.message == f"{tmp_path}/a: no space left on this disk"
    assert caught.value.hint == "free some space, or name another folder: --cache, --out"
    assert caught.value.exit_code == 3
    assert (tmp_path / "a").read_text() == "old"
    assert listing(tmp_path) == ["a"]


# A folder.


def test_a_folder_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "out"
    for text in ("old", "new"):
        with publishing(target) as folder:
            (folder / text).write_text(text)
            assert listing(folder) == [text]
            assert not (target / "new").exists()
    assert listing(target) == ["new"]
    assert target.stat().st_mode & 0o777 == 0o755
    assert listing(tmp_path) == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, KilledError])
def test_the_old_folder_stays_when_the_new_one_is_not_finished(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out"
    with publishing(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(error), publishing(target) as folder:
        (folder / "a").write_text("new")
        raise error
    assert (target / "a").read_text() == "old"
    assert listing(tmp_path) == ["out"]


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(ToolError, match=f"^{target}: no space left on this disk$"), publishing(target):
        full()
    assert listing(tmp_path) == ["out"]


def test_the_old_folder_is_put_back_when_the_new_one_cannot_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = tmp_path / "out", tmp_path / "new"
    old.mkdir()
    new.mkdir()
    real = Path.rename

    def rename(path: Path, target: Path) -> Path:
        if path == new:
            raise KeyboardInterrupt
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        files.replace_folder(new, old)
    assert listing(tmp_path) == ["new", "out"]


def test_what_a_killed_process_of_the_same_number_left_is_no_obstacle(tmp_path: Path) -> None:
    for name in ("out", f".old-out-{os.getpid()}"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a").touch()
    with publishing(tmp_path / "out") as folder:
        (folder / "b").touch()
    assert listing(tmp_path / "out") == ["b"]
    assert listing(tmp_path) == ["out"]


def test_files_are_on_the_disk_before_the_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda handle: synced.append(Path(f"/proc/self/fd/{handle}").readlink()))
    with publishing(tmp_path / "out") as folder:
        (folder / "a").touch()
        (folder / "deeper").mkdir()
        (folder / "nowhere").symlink_to("gone")
        (folder / "pipe").symlink_to("/dev/null")
    assert sorted(synced) == [folder, folder / "a"]


# Locks.

HOLD = """
import sys
from pathlib import Path
from cumulet.core.files import locked
with locked(Path(sys.argv[1]), "x"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_builder_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "folder/.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ToolError) as caught, locked(path, "/x/out"):
            pytest.fail("two processes hold one lock")
        assert caught.value.message == f"/x/out is in use by process {other.pid}"
        assert caught.value.hint == "wait for it to end"
        other.kill()
    # A lock of a process that was killed is nobody's.
    with locked(path, "/x/out"):
        assert path.read_text() == str(os.getpid())
    with locked(path, "/x/out"):
        pass


def test_a_lock_without_a_number_is_of_an_unknown_process(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path, "a"):
        path.write_text("")
        with pytest.raises(ToolError, match=r"^a is in use by process unknown$"), locked(path, "a"):
            pass


# Words.


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space", "/x/y"), "/a: no space left on this disk"),
        (OSError(errno.EDQUOT, "Quota", "/x/y"), "/a: no space left on this disk"),
        (PermissionError(errno.EACCES, "Permission denied", "/x/y"), "/x/y: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "/a: Input/output error"),
        (OSError("of another kind"), "/a: of another kind"),
    ],
)
def test_errors_of_the_disk_name_a_file(error: OSError, message: str) -> None:
    with pytest.raises(ToolError) as caught:
        raise_os_error(error, Path("/a"))
    assert caught.value.message == message
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("pieces", [[(0, b"a" * 5000)], [(3 << 20, b"b" * 70000)], [(1, b"c"), (9 << 20, b"d")], []])
def test_a_file_with_holes_has_the_digest_of_its_content(tmp_path: Path, pieces: list[tuple[int, bytes]]) -> None:
    path = tmp_path / "disk"
    with path.open("wb") as stream:
        stream.truncate((10 << 20) + 123)
        for place, content in pieces:
            stream.seek(place)
            stream.write(content)
    assert path.stat().st_blocks * 512 < path.stat().st_size
    assert sha256_file(path) == hashlib.sha256(path.read_bytes()).hexdigest()
