"""Tools of the image's own Debian release, run without touching this computer.

A tools tree is a folder of unpacked packages. Its programs see that tree as /
and only the folders they are given, so the same versions make the same bytes on
every computer. Works as root and, in a user namespace, as an ordinary user.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, NoReturn

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.core.files import raise_os_error
from cumulet_builder import sandbox

FULL = "No space left on device"
# Some tools call a full disk something else: less room than this, where one has just failed, is one.
ROOM = 4 << 20
# The temporary folder of whoever builds is not there in the sandbox.
ENVIRONMENT = {"TZ": "UTC", "TMPDIR": "/tmp"}


@dataclass(frozen=True)
class Toolbox:
    """The tools tree in folder `root` (which has a `usr`)."""

    root: Path

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        folders: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        log: IO[str] | None = None,
        input: str | None = None,
        check: bool = True,
    ) -> proc.Result:
        """Run a tool to its end, in the first of `folders`, which it sees writable at their own paths.

        Raises ToolError if it does not exit with 0 (with `check`).
        """
        words = tuple(str(word) for word in argv)
        seen = [str(folder.absolute()) for folder in folders]
        spec = json.dumps({"root": str(self.root.resolve()), "folders": seen, "cwd": seen[0] if seen else "/"})
        inner = [sys.executable, "-I", "-S", sandbox.__file__, spec, "--", *words]
        done = proc.run([*make_namespace(), *inner], env={**(env or {}), **ENVIRONMENT}, input=input, check=False)
        # What people want to read about is the tool, not how it was put into its sandbox.
        result = proc.Result(words, done.code, done.out, done.err)
        if log is not None:
            log.write(f"+ {proc.quote(words)}\n{result.out}{result.err}")
            log.flush()
        if check and result.code != 0:
            raise_failure(result, folders[0] if folders else self.root)
        return result


@dataclass(frozen=True)
class HostTools(Toolbox):
    """This computer's own programs, where no tools tree is: their versions are not part of any lock."""

    root: Path = Path("/")

    def run(
        self,
        argv: Sequence[str | Path],
        *,
        folders: Sequence[Path] = (),
        env: Mapping[str, str] | None = None,
        log: IO[str] | None = None,
        input: str | None = None,
        check: bool = True,
    ) -> proc.Result:
        """Run a program to its end, in the first of `folders`; it sees the whole computer."""
        words = tuple(str(word) for word in argv)
        where = folders[0] if folders else None
        inside = {**(env or {}), "TZ": "UTC"}
        done = proc.run([*make_namespace(), *words], cwd=where, env=inside, input=input, check=False)
        result = proc.Result(words, done.code, done.out, done.err)
        if log is not None:
            log.write(f"+ {proc.quote(words)}\n{result.out}{result.err}")
            log.flush()
        if check and result.code != 0:
            raise_failure(result, where or self.root)
        return result


def make_namespace() -> list[str]:
    """The words that start a program in namespaces of its own, as root inside.

    An ordinary user gets a user namespace with the ids of /etc/subuid and /etc/subgid.
    Everything in it dies with the process that started it, also after a kill -9.
    """
    words = ["setpriv", "--pdeathsig", "KILL", "--"]
    words += ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user", "--map-auto"]
    return words


def raise_failure(result: proc.Result, folder: Path) -> NoReturn:
    """Raise the error of a tool that failed while it worked in `folder`; a full disk is named as such."""
    text = (result.err.strip() or result.out.strip()).splitlines()
    there = next(each for each in (folder, *folder.parents) if each.exists())
    if FULL in result.err or FULL in result.out or shutil.disk_usage(there).free < ROOM:
        raise_os_error(OSError(errno.ENOSPC, FULL), folder)
    last = f": {text[-1].strip()}" if text else ""
    raise ToolError(
        f"{Path(result.argv[0]).name} {proc.describe_exit(result.code)}{last}",
        hint="its whole output is in the build log",
    )


def remove_tree(folder: Path) -> None:
    """Remove a folder, also one with files of ids that only a namespace of ours may touch."""
    shutil.rmtree(folder, ignore_errors=True)
    if folder.exists():
        proc.run([*make_namespace(), "rm", "-rf", folder], check=False)
