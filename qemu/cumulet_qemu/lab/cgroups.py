"""Control groups of a lab: one subtree a node, in every hierarchy of this computer, version 1 or 2.

The computer's own mounts are only read. A node's processes are found through its
subtree, so that they can be ended whatever became of the process that started them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import ToolError

TOP = "cumulet-lab"
END_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A mounted hierarchy: its name inside a node (`memory`, `cpu,cpuacct`, `systemd`, `unified`) and its folder."""

    name: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Cgroups:
    """All hierarchies; `version` is `v2` where the unified one is the only one."""

    version: str
    hierarchies: tuple[Hierarchy, ...]

    def folders(self, path: str) -> dict[str, Path]:
        """Hierarchy name -> the folder of a lab (`NAME`) or of a node (`NAME/NODE`)."""
        return {each.name: each.folder / TOP / path for each in self.hierarchies}


def find_cgroups(mountinfo: str) -> Cgroups:
    """The hierarchies in the text of /proc/self/mountinfo. Raises ToolError if there are none."""
    found: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        folder = Path(before.split()[4])
        if kind == "cgroup2":
            found["unified"] = folder
        elif kind == "cgroup":
            words = [word for word in options.split(",") if word not in ("rw", "ro", "xattr")]
            name = next((word.removeprefix("name=") for word in words if word.startswith("name=")), None)
            found[name or ",".join(words)] = folder
    if not found:
        raise ToolError("no control groups are mounted on this computer", hint="mount -t cgroup2 none /sys/fs/cgroup")
    version = "v2" if set(found) == {"unified"} else "v1"
    known = [Hierarchy(name, folder) for name, folder in found.items()]
    return Cgroups(version, tuple(known))


def read_cgroups() -> Cgroups:
    """This computer's hierarchies."""
    return find_cgroups(Path("/proc/self/mountinfo").read_text())


def make_groups(cgroups: Cgroups, path: str) -> dict[str, Path]:
    """Make a node's folders; returns hierarchy name -> folder."""
    for each in cgroups.hierarchies:
        folder = each.folder
        for part in (TOP, *path.split("/")):
            if (folder / "cgroup.controllers").exists() and cgroups.version == "v2":
                _delegate(folder)
            parent, folder = folder, folder / part
            folder.mkdir(exist_ok=True)
            # A new cpuset of version 1 takes no process before it has processors and memory.
            for name in ("cpuset.cpus", "cpuset.mems"):
                if (folder / name).exists() and cgroups.version == "v1":
                    (folder / name).write_text((parent / name).read_text())
    return cgroups.folders(path)


def limit_memory(folders: dict[str, Path], size: int) -> None:
    """Give a node no more than `size` bytes."""
    for folder in folders.values():
        for name in ("memory.limit_in_bytes", "memory.max"):
            if (folder / name).exists():
                (folder / name).write_text(str(size))


def list_processes(cgroups: Cgroups, path: str) -> set[int]:
    """Every process of a lab or node, as numbers of this computer's."""
    return {number for folder in cgroups.folders(path).values() for number in _walk(folder)}


def end_processes(cgroups: Cgroups, path: str) -> None:
    """Kill everything in a lab or node, at once. Raises ToolError if something survives."""
    until = time.monotonic() + END_SECONDS
    while numbers := list_processes(cgroups, path):
        if time.monotonic() > until:
            raise ToolError(f"{TOP}/{path}: processes that do not end: {' '.join(map(str, sorted(numbers)))}")
        for number in numbers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
        time.sleep(0.02)


def remove_groups(cgroups: Cgroups, path: str) -> None:
    """Remove the folders of a lab or node, and the common one above if it is empty then."""
    for folder in cgroups.folders(path).values():
        for below in sorted(_folders(folder), key=lambda each: len(each.parts), reverse=True):
            _remove(below)
    for each in cgroups.hierarchies:
        with contextlib.suppress(OSError):
            (each.folder / TOP).rmdir()


def _remove(folder: Path) -> None:
    # The kernel lets go of a group a moment after its last process.
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.02)
        else:
            return
    raise ToolError(f"{folder}: this control group cannot be removed")


def _delegate(folder: Path) -> None:
    have = (folder / "cgroup.controllers").read_text().split()
    for name in have:
        # The root of a container that does not own this hierarchy refuses some of them.
        with contextlib.suppress(OSError):
            (folder / "cgroup.subtree_control").write_text(f"+{name}")


def _folders(folder: Path) -> Iterator[Path]:
    # Groups come and go while they are looked at; one that is gone has no processes.
    for path, _, _ in os.walk(folder):
        yield Path(path)


def _walk(folder: Path) -> Iterator[int]:
    for each in _folders(folder):
        with contextlib.suppress(OSError):
            yield from (int(number) for number in (each / "cgroup.procs").read_text().split())
