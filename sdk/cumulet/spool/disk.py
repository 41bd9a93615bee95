"""The few operations that decide what is left after a power cut.

Whatever must survive goes through a `Disk`. A test puts another one in its place: one that keeps a
record, or one that ends the process at the n-th operation.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path


class Disk:
    """Durable files. Every method raises OSError as the system says it."""

    def make_folder(self, path: Path) -> None:
        """Make one folder, which must not be there; its parent must."""
        path.mkdir()

    def write(self, path: Path, pieces: Iterable[bytes]) -> None:
        """Write a new file and wait until its content is on disk. Its name is safe after `sync_folder`."""
        with path.open("xb") as stream:
            for piece in pieces:
                stream.write(piece)
            stream.flush()
            os.fsync(stream.fileno())

    def write_at(self, path: Path, offset: int, piece: bytes) -> None:
        """Write `piece` at `offset` of a file that may be new. Not yet safe: see `sync_file`."""
        handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        try:
            while piece:
                written = os.pwrite(handle, piece, offset)
                piece, offset = piece[written:], offset + written
        finally:
            os.close(handle)

    def truncate(self, path: Path, size: int) -> None:
        """Cut a file to `size` bytes and wait until that is on disk."""
        with path.open("r+b") as stream:
            stream.truncate(size)
            os.fsync(stream.fileno())

    def sync_file(self, path: Path) -> None:
        """Wait until a file's content is on disk."""
        self._sync(path)

    def sync_folder(self, path: Path) -> None:
        """Wait until the names in a folder are on disk."""
        self._sync(path)

    def rename(self, old: Path, new: Path) -> None:
        """Give a file or folder another name. Safe after `sync_folder` of the new place."""
        old.rename(new)

    def remove(self, path: Path) -> None:
        """Remove a file or a folder with all that is in it; nothing there is fine."""
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    @staticmethod
    def _sync(path: Path) -> None:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def make_folders(*paths: Path) -> None:
    """Make folders with their parents before anything is promised, and wait until their names are on disk."""
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        Disk().sync_folder(path.parent)
