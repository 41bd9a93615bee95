"""Running kas and bitbake: the command, what its output says of the progress, and which task it failed in."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet_builder.user_config import YoctoConfig

DOCUMENT, COMPUTER, HANDOVER, BUILD, LOG = "kas.yaml", "computer.yaml", "handover", "build", "bitbake.log"
RUNTIMES = ("podman", "docker")
# What bitbake looks for before anything else, and the Debian package of each.
HOST_TOOLS = {
    "ar": "binutils", "chrpath": "chrpath", "cpio": "cpio", "diffstat": "diffstat", "file": "file", "g++": "g++",
    "gawk": "gawk", "gcc": "gcc", "git": "git", "lz4": "lz4", "make": "make", "patch": "patch", "perl": "perl",
    "rpcgen": "rpcsvc-proto", "tar": "tar", "unzip": "unzip", "wget": "wget", "xz": "xz-utils", "zstd": "zstd",
}  # fmt: skip
# The way to private repositories.
PASSED = ("SSH_AUTH_SOCK", "GIT_SSH_COMMAND")
RUNNING = re.compile(r"Running (?:setscene )?task (\d+) of (\d+) \(([^)]*)\)")
PARSING = re.compile(r"Parsing of (\d+) \.bb files complete")
FAILED = re.compile(r"ERROR: Task \((?:[^:)]*:)*?([^:)]*?):(do_\w+)\) failed with exit code")
LOGFILE = re.compile(r"ERROR: Logfile of failure stored in: (\S+)")
ERROR = re.compile(r"^(?:ERROR|FATAL): (.*)$")
# What people are told to do about an error that is not a task's.
HINTS = (
    ("Do not use Bitbake as root", "build as an ordinary user, or set yocto: {container: always} in the settings file"),
    ("appear to be unavailable in PATH", "install them, or set yocto: {container: always} in the settings file"),
    ("Nothing PROVIDES", "name a package that the layers have, or the fragment that brings its layer, under yocto:"),
    ("Nothing RPROVIDES", "name a package that the layers have, or the fragment that brings its layer, under yocto:"),
    ("No space left on device", "free some space, or name another folder: --cache"),
    ("Fetcher failure", "look at the network, or name a mirror: yocto: {source_mirror: URL} in the settings file"),
)


@dataclass
class Watch:
    """Reads bitbake's output line by line: tells of progress, remembers what went wrong."""

    tell: Callable[[str], None]
    errors: list[str] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    told: int = -1

    def read(self, line: str) -> None:
        """One line of output."""
        running, parsing = RUNNING.search(line), PARSING.search(line)
        if running:
            self._progress(int(running[1]), int(running[2]), running[3])
        elif parsing:
            self.tell(f"{parsing[1]} recipes parsed")
        failed, log, error = FAILED.search(line), LOGFILE.search(line), ERROR.match(line)
        if failed:
            self.failed.append((Path(failed[1]).name.removesuffix(".bb"), failed[2]))
        elif log:
            self.logs.append(log[1])
        elif error:
            self.errors.append(error[1])

    def _progress(self, number: int, total: int, task: str) -> None:
        """A line at each whole percent is enough to see that it goes on, and where it is."""
        percent = 100 * number // max(total, 1)
        if percent == self.told:
            return
        self.told = percent
        recipe, _, name = task.rpartition(":")
        self.tell(f"{percent} %: task {number} of {total}: {Path(recipe).name.removesuffix('.bb')} {name}")

    def failure(self, code: int, log: Path) -> ToolError:
        """The error of a run that ended with `code`: recipe, task and log of the first failure."""
        if self.failed:
            recipe, task = self.failed[0]
            place = self.logs[0] if self.logs else str(log)
            more = f" (and {len(self.failed) - 1} more tasks)" if len(self.failed) > 1 else ""
            return ToolError(f"{recipe}: {task} failed{more}{_tail(Path(place))}", hint=f"its log is {place}")
        text = "; ".join(dict.fromkeys(self.errors[:3])) or f"kas {proc.describe_exit(code)}"
        hint = next((hint for words, hint in HINTS if any(words in each for each in self.errors)), "")
        return ToolError(text, hint=hint or f"its whole output is {log}")


def _tail(log: Path, lines: int = 8) -> str:
    try:
        text = log.read_text(errors="replace").strip().splitlines()[-lines:]
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in text)


def missing_tools(find: Callable[[str], str | None] = proc.find) -> list[str]:
    """What bitbake needs of this computer and does not find."""
    return [name for name in HOST_TOOLS if find(name) is None]


def check_kas(have: Callable[[str], object] = importlib.util.find_spec) -> None:
    """Raise ToolError if kas was not installed with cumulet."""
    if not have("kas"):
        raise ToolError("kas is not installed", hint="pip install 'cumulet-board[yocto]'")


def want_container(config: YoctoConfig, missing: Sequence[str], have_runtime: bool) -> bool:
    """Whether to build in kas' container. Raises ToolError if this computer can do neither. Pure."""
    if config.container != "auto":
        return config.container == "always"
    if not missing:
        return False
    if have_runtime:
        return True
    packages = " ".join(sorted({HOST_TOOLS[name] for name in missing}))
    raise ToolError(
        f"bitbake needs programs that this computer lacks: {', '.join(missing)}",
        hint=f"sudo apt-get install {packages}, or install podman to build in a container",
    )


def make_command(folder: Path, mounts: Iterable[Path], in_container: bool) -> list[str]:
    """The words that build what the documents in `folder` say. `mounts` are folders that a container must see. Pure."""
    documents = f"{folder / DOCUMENT}:{folder / COMPUTER}"
    if not in_container:
        return [sys.executable, "-m", "kas", "build", documents]
    seen = " ".join(f"-v {mount}:{mount}" for mount in sorted({str(mount) for mount in mounts}))
    program = Path(sys.executable).with_name("kas-container")
    return [str(program) if program.exists() else "kas-container", "--runtime-args", seen, "build", documents]


def run_kas(command: Sequence[str], folder: Path, tell: Callable[[str], None]) -> None:
    """Run kas to its end in the workspace `folder`; raises ToolError with recipe, task and log if it fails."""
    environment = {"KAS_WORK_DIR": str(folder), "KAS_BUILD_DIR": str(folder / BUILD)}
    environment |= {name: os.environ[name] for name in PASSED if name in os.environ}
    log, watch = folder / LOG, Watch(tell)
    with log.open("w") as stream, log.open(errors="replace") as reader:
        process = proc.spawn(command, cwd=folder, env=environment, log=stream)
        try:
            while process.poll() is None:
                _follow(reader, watch)
                time.sleep(0.1)
        except BaseException:
            # bitbake puts its work down in order when it is asked to end.
            proc.stop(process, grace=60)
            raise
        _follow(reader, watch, last=True)
    if process.returncode != 0:
        raise watch.failure(process.returncode, log)


def _follow(reader: IO[str], watch: Watch, *, last: bool = False) -> None:
    """Hand every whole line that has come since to the watch."""
    while True:
        start = reader.tell()
        line = reader.readline()
        if not line.endswith("\n") and not (last and line):
            reader.seek(start)
            return
        watch.read(line.rstrip("\n"))
