"""The one module that starts programs.

argv lists only, no shell; the environment is rebuilt from an allow-list; stdin
is closed; a missing tool and a death by signal are named; the command in an
error can be pasted into a shell.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from cumulet.core.errors import ToolError

# What a program may inherit. Proxies and certificate bundles are the user's way
# to the network; everything else would make a build depend on who started it.
ALLOWED = (
    "HOME", "PATH", "TERM", "USER", "TMPDIR", "XDG_RUNTIME_DIR",
    "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE",
    "PIP_CERT", "PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS",
    "PIP_DEFAULT_TIMEOUT", "GOPROXY", "GONOSUMDB", "GOSUMDB", "GOFLAGS", "GOMODCACHE", "GOCACHE",
)  # fmt: skip
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")
TAIL = 20


@dataclass(frozen=True, slots=True)
class Result:
    """What a finished program left: its argv, exit code and captured text."""

    argv: tuple[str, ...]
    code: int
    out: str
    err: str


def make_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a program: the allow-list, `LANG=C.UTF-8`, then `extra`."""
    env = {name: os.environ[name] for name in ALLOWED if name in os.environ}
    folders = env.get("PATH", "/usr/local/bin:/usr/bin:/bin").split(":")
    env["PATH"] = ":".join([*folders, *(f for f in SYSTEM_FOLDERS if f not in folders)])
    return {**env, "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(extra or {})}


def find(name: str) -> str | None:
    """The full path of a program, looked for in PATH and the system folders, or None."""
    return shutil.which(name, path=make_environment()["PATH"])


def quote(argv: Sequence[str]) -> str:
    """The command as it can be pasted into a shell."""
    return shlex.join(argv)


def describe_exit(code: int) -> str:
    """`exited with code 7`, or `was killed by SIGKILL` for a negative code."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    return f"was killed by {name}"


def run(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout: float | None = None,
    log: IO[str] | None = None,
    check: bool = True,
) -> Result:
    """Run a program to its end.

    `env` is added to the rebuilt environment. With `log`, both outputs go to that
    file and `Result.out` and `err` are empty. Raises ToolError if the program is
    missing, passes `timeout` seconds, or (with `check`) does not exit with 0.
    """
    words = [str(word) for word in argv]
    sink = log if log is not None else subprocess.PIPE
    if log is not None:
        log.write(f"+ {quote(words)}\n")
        log.flush()
    stdin = subprocess.PIPE if input is not None else subprocess.DEVNULL
    with _start(words, cwd, env, sink, stdin) as process:
        try:
            out, err = process.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            stop(process)
            raise ToolError(f"{words[0]}: not done within {timeout:.0f} s", hint=quote(words)) from error
        except BaseException:
            stop(process)
            raise
    result = Result(tuple(words), process.returncode, out or "", err or "")
    if check and result.code != 0:
        raise failure(result)
    return result


def spawn(
    argv: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    log: IO[str] | None = None,
) -> subprocess.Popen[str]:
    """Start a program that goes on running; the caller ends it with `stop`.

    It leads a process group of its own, so that Ctrl-C reaches only us and
    `stop` reaches its children too.
    """
    words = [str(word) for word in argv]
    return _start(words, cwd, env, log if log is not None else subprocess.DEVNULL, subprocess.DEVNULL)


def attach(argv: Sequence[str | Path]) -> int:
    """Run a program on the user's own terminal and give back its exit code. Raises ToolError if it is missing."""
    words = [str(word) for word in argv]
    program = find(words[0])
    if program is None:
        raise ToolError(f"{words[0]}: no such program on this computer", hint="cumulet doctor")
    return subprocess.run([program, *words[1:]], env=make_environment(), check=False).returncode


def stop(process: subprocess.Popen[str], grace: float = 5.0) -> int:
    """End a program and its process group: SIGTERM, then SIGKILL after `grace` seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=grace)
        except subprocess.TimeoutExpired:
            continue
    return process.wait()


def kill(process: subprocess.Popen[str]) -> int:
    """End a program and its process group at once: SIGKILL."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def failure(result: Result) -> ToolError:
    """The error for a program that did not exit with 0: its last lines, and the command as hint."""
    tail = "\n".join((result.err or result.out).strip().splitlines()[-TAIL:])
    message = f"{Path(result.argv[0]).name} {describe_exit(result.code)}"
    return ToolError(f"{message}\n{tail}" if tail else message, hint=f"the command was: {quote(result.argv)}")


def _start(
    words: list[str],
    cwd: Path | None,
    env: Mapping[str, str] | None,
    sink: IO[str] | int,
    stdin: int,
) -> subprocess.Popen[str]:
    program = find(words[0]) if "/" not in words[0] else words[0]
    if program is None:
        raise ToolError(f"{words[0]}: no such program on this computer", hint="cumulet doctor")
    try:
        return subprocess.Popen(
            [program, *words[1:]],
            cwd=cwd,
            env=make_environment(env),
            stdin=stdin,
            stdout=sink,
            stderr=subprocess.STDOUT if sink is not subprocess.PIPE else subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{words[0]}: cannot be started: {error.strerror}", hint="cumulet doctor") from error
