"""Private views of the file system: mounts inside a namespace of our own.

Standard library only: this file is also run as a program, inside a fresh mount
namespace, before a tool is started there. Whatever is mounted here vanishes with
the namespace, also after a kill -9.

As a program: `sandbox.py SPEC -- ARGV`. The spec, as JSON, says what the new root is
made of: `root` (a tools tree), `folders` (seen at their own path, writable), `cwd`.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
MNT_DETACH = 2
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
TOP_LINKS = ("bin", "sbin", "lib", "lib64")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError naming the target."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(source.encode(), target.encode(), kind.encode() or None, flags, data.encode() or None)
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"mount: {os.strerror(number)}", target)


def unmount(target: str) -> None:
    """umount2(2), lazily. Raises OSError naming the target."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.umount2(target.encode(), MNT_DETACH) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"umount: {os.strerror(number)}", target)


def bind(source: str, target: str) -> None:
    """Show `source` at `target`, which must exist and be of the same kind."""
    mount(source, target, flags=MS_BIND | MS_REC)


def bind_new(source: str, target: str) -> None:
    """Show `source` at `target`; an empty file or folder is made there first if nothing is."""
    where = Path(target)
    if not where.exists():
        where.parent.mkdir(parents=True, exist_ok=True)
        if Path(source).is_dir():
            where.mkdir()
        else:
            where.touch()
    bind(source, target)


def mount_system(root: str) -> None:
    """Mount a minimal /dev, a /proc and a fresh /tmp below `root`."""
    for name in ("dev", "proc", "tmp"):
        Path(root, name).mkdir(exist_ok=True)
    mount("tmpfs", f"{root}/dev", "tmpfs", MS_NOSUID, "mode=755,size=1m")
    for name in DEVICES:
        bind_new(f"/dev/{name}", f"{root}/dev/{name}")
    Path(root, "dev/shm").mkdir()
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        Path(root, "dev", name).symlink_to(target)
    try:
        mount("proc", f"{root}/proc", "proc", MS_NOSUID | MS_NODEV)
    except PermissionError:
        # A container that hides parts of /proc does not let us mount a whole one.
        bind("/proc", f"{root}/proc")
    mount("tmpfs", f"{root}/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def unmount_system(root: str) -> None:
    """Undo `mount_system`."""
    for name in ("tmp", "proc", "dev"):
        unmount(f"{root}/{name}")


def make_private() -> None:
    """Keep every mount made from here on inside this namespace."""
    mount("none", "/", flags=MS_REC | MS_PRIVATE)


def enter_tools(root: str, folders: Sequence[str], cwd: str) -> None:
    """Make a new root of a tools tree, with `folders` at their own paths, and step into it."""
    new = "/tmp"  # only a mount point inside the private namespace
    # Held open by descriptor, since the tmpfs below may hide a folder that lies under it.
    handles = [(os.open(folder, os.O_PATH), folder) for folder in folders]
    tools = os.open(root, os.O_PATH)
    mount("tmpfs", new, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in ("usr", "etc", "var", "root", "run"):
        Path(new, name).mkdir()
    bind(f"/proc/self/fd/{tools}/usr", f"{new}/usr")
    for name in TOP_LINKS:
        Path(new, name).symlink_to(f"usr/{name}")
    Path(new, "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    Path(new, "etc/group").write_text("root:x:0:\n")
    Path(new, "etc/mtab").symlink_to("/proc/self/mounts")
    mount_system(new)
    for handle, folder in handles:
        bind_new(f"/proc/self/fd/{handle}", new + folder)
    os.chroot(new)
    os.chdir(cwd)


def end_at_sigterm() -> None:
    """Let SIGTERM end this process, and with it the namespace; the first process of one ignores it by default."""
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + number))


def main(arguments: Sequence[str]) -> int:
    """Enter the sandbox of the spec and run the command there; returns its exit code, 128 + N for signal N."""
    end_at_sigterm()
    spec = json.loads(arguments[0])
    make_private()
    enter_tools(spec["root"], spec["folders"], spec["cwd"])
    os.environ["PATH"] = "/usr/sbin:/usr/bin"
    child = os.fork()
    if child == 0:
        _become(list(arguments[2:]))
    while True:
        done, status = os.wait()
        if done == child:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _become(command: list[str]) -> NoReturn:
    try:
        os.execvp(command[0], command)  # noqa: S606 - running the tool is what this program is for
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        sys.stderr.flush()
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
