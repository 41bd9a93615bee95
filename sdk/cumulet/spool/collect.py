"""Files that tasks have left in a folder become results: kept in the spool, and only then removed.

    FOLDER/TASK/NAME      one result of a task; NAME may have folders in it

A task writes under a name that begins with a dot or ends with `.part`, and renames it when it is whole; what is
written under its own name is taken once nobody has changed it for a while. A result's id is made of its task, its name
and its content: a task that was cut off and does its last step again gives the same id, which counts once.
"""

from __future__ import annotations

import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cumulet.core.errors import CumuletError, UsageError
from cumulet.spool.store import Spool, SpoolFullError

SETTLE = 3.0
PIECE = 1 << 20
LONGEST = 512
OPEN = 0o1777
TASK, NAME, NODE = "task", "name", "node"
"""What is remarked of a result: the task's name, the result's below its folder, where it was made."""
log = logging.getLogger("cumulet.spool")


@dataclass(frozen=True, slots=True)
class Found:
    """A file in the folder: the folder's handle, its name there, its task, its whole name."""

    handle: int
    file: str
    task: str
    name: str


class Collector:
    """Takes what lies below `folder` into a spool. `node` is where this runs, `settle` the seconds without a change."""

    def __init__(
        self,
        folder: Path,
        spool: Spool,
        *,
        node: str = "",
        settle: float = SETTLE,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder, self.spool, self.node = folder, spool, node
        self._settle, self._clock = settle, clock
        self._told: set[str] = set()

    def collect(self) -> int:
        """Take everything that is whole; how many results. A full spool ends it: the rest stays where it is."""
        taken = 0
        self._open_folders()
        for found in self._walk():
            try:
                taken += self._take(found)
            except SpoolFullError as error:
                self._tell(error.message)
                break
            except (OSError, CumuletError) as error:
                self._tell(f"{found.task}/{found.name}: {error}")
        return taken

    def _open_folders(self) -> None:
        """Let a task write into its folder, which the kubelet makes for root alone, whoever runs in its container.

        Nobody else on this node comes as far: the folder above is the service's own.
        """
        try:
            entries = list(os.scandir(self.folder)) if self.folder.is_dir() else []
            for each in entries:
                if each.is_dir(follow_symlinks=False) and each.stat(follow_symlinks=False).st_mode & 0o1777 != OPEN:
                    Path(each.path).chmod(OPEN)
        except OSError as error:
            self._tell(str(error))

    def _walk(self) -> Iterator[Found]:
        """Every file, without following a link anywhere: what lies here was written by containers."""
        if not self.folder.is_dir():
            return
        for path, folders, files, handle in os.fwalk(self.folder, follow_symlinks=False):
            folders.sort()
            words = Path(path).relative_to(self.folder).parts
            for file in sorted(files) if words else ():
                if not file.startswith(".") and not file.endswith(".part"):
                    yield Found(handle, file, words[0], "/".join((*words[1:], file)))

    def _take(self, found: Found) -> bool:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        if not stat.S_ISREG(os.lstat(found.file, dir_fd=found.handle).st_mode):
            return False
        handle = os.open(found.file, flags, dir_fd=found.handle)
        try:
            before = os.fstat(handle)
            age = self._clock() - before.st_mtime
            # A clock that was set back makes a file seem to come from the future: that is no reason to wait for ever.
            if not stat.S_ISREG(before.st_mode) or 0 <= age < self._settle:
                return False
            if len(os.fsencode(found.name)) > LONGEST or not found.name.isprintable():
                raise UsageError(f"its name is longer than {LONGEST} bytes, or has signs that are no letters")
            digest = _digest(handle)
            key = hashlib.sha256(f"{found.task}\0{found.name}\0{digest}".encode()).hexdigest()[:40]
            meta = {TASK: found.task, NAME: found.name, **({NODE: self.node} if self.node else {})}
            entry = self.spool.put(_pieces(handle), id=key, meta=meta, created=round(before.st_mtime, 3))
            after = os.fstat(handle)
        finally:
            os.close(handle)
        whole = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if not whole or entry.sha256 != digest:
            # Somebody went on writing: what was kept is true of that moment, and the file comes again.
            return False
        os.unlink(found.file, dir_fd=found.handle)
        return True

    def _tell(self, text: str) -> None:
        """Each trouble once."""
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            log.warning("%s: %s", self.folder, text)


def _digest(handle: int) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(handle):
        digest.update(piece)
    return digest.hexdigest()


def _pieces(handle: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(handle, PIECE, offset):
        offset += len(piece)
        yield piece
