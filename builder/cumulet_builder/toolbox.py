"""Tools of the image's own Debian release, run without touching this computer.

A tools tree is a folder of unpacked packages. Its programs see that tree as /
and only the folders they are given, so the same versions make the same bytes on
every computer. Works as root and, in a user namespace, as an ordinary user.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cumulet.core import proc
from cumulet_builder import sandbox


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
        seen = [str(folder.resolve()) for folder in folders]
        spec = {"root": str(self.root.resolve()), "folders": seen, "cwd": seen[0] if seen else "/"}
        with tempfile.NamedTemporaryFile("w", suffix=".json", prefix="cumulet-") as stream:
            json.dump(spec, stream)
            stream.flush()
            inner = [sys.executable, "-I", "-S", sandbox.__file__, stream.name, "--", *argv]
            return proc.run(
                [*make_namespace(), *inner],
                env={**(env or {}), "TZ": "UTC"},
                log=log,
                input=input,
                check=check,
            )


def make_namespace() -> list[str]:
    """The words that start a program in namespaces of its own, as root inside.

    An ordinary user gets a user namespace with the ids of /etc/subuid and /etc/subgid.
    """
    words = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--ipc", "--uts", "--net"]
    if os.geteuid() != 0:
        words += ["--user", "--map-root-user", "--map-auto"]
    return words
