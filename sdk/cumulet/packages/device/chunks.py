"""A blob that is coming: bytes at the end of a file, believed chunk by chunk.

There is no record of progress beside the file: whoever opens it again hashes what is
there, so that nothing that was written before a break can be wrong or lost unnoticed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumulet.core.errors import TargetError

PIECE = 1 << 18


@dataclass(frozen=True)
class Blob:
    """What a signed index says of a package's bytes: SHA-256 of all, and of every `chunk` bytes."""

    name: str
    sha256: str
    size: int
    chunk: int
    chunks: tuple[str, ...]

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> Blob:
        """The blob from plain values; others that are there are passed over."""
        return cls(
            values.get("title", values["name"]),
            values["sha256"],
            values["size"],
            values["chunk"],
            tuple(values["chunks"]),
        )


class WrongChunkError(TargetError):
    """A chunk is not what the signed index says."""

    def __init__(self, blob: Blob, number: int) -> None:
        message = f"{blob.name}: chunk {number + 1} of {len(blob.chunks)} is not what the signed index says"
        super().__init__(message, hint="somebody has changed it, or the store is damaged: publish the package again")
        self.number = number


class Part:
    """The file of a blob that is coming. `verified` bytes may be read by others; `length` are there."""

    def __init__(self, folder: Path, blob: Blob) -> None:
        self.blob = blob
        self.path = folder / f"{blob.sha256}.part"
        self.final = folder / blob.sha256
        self.grown = threading.Condition()
        self.length = self.verified = 0
        self._whole = hashlib.sha256()
        self._tail = hashlib.sha256()
        folder.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._take_over()

    def close(self) -> None:
        """Let go of the file; what is there stays."""
        os.close(self._file)

    @property
    def whole(self) -> bool:
        """Whether every byte is there and verified."""
        return self.verified == self.blob.size and self.length == self.blob.size

    def write(self, data: bytes) -> None:
        """Add bytes. Raises WrongChunkError, with the wrong chunk taken away again, or TargetError for a full disk."""
        view = memoryview(data)
        while view:
            end = min(self.verified + self.blob.chunk, self.blob.size)
            if self.length >= end:
                raise TargetError(f"{self.blob.name}: more bytes came than the {self.blob.size} of the signed index")
            piece = view[: end - self.length]
            self._append(piece)
            view = view[len(piece) :]
            if self.length == end:
                os.fdatasync(self._file)
                self._believe()

    def publish(self) -> Path:
        """Give the whole file its final name. Raises TargetError if its digest is not that of the index."""
        if not self.whole or self._whole.hexdigest() != self.blob.sha256:
            self._cut(0)
            raise TargetError(
                f"{self.blob.name}: the chunks of the signed index are not those of its sha256", hint="publish it again"
            )
        os.fsync(self._file)
        self.path.replace(self.final)
        sync_folder(self.final.parent)
        with self.grown:
            self.grown.notify_all()
        return self.final

    def _append(self, piece: memoryview) -> None:
        try:
            done = 0
            while done < len(piece):
                done += os.pwrite(self._file, piece[done:], self.length + done)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                message = f"{self.blob.name}: no space left on this disk, {self.length} of {self.blob.size} bytes came"
                raise TargetError(message, hint="free some space in /var/lib/cumulet") from error
            raise TargetError(f"{self.path}: {error.strerror}") from error
        self._tail.update(piece)
        self.length += len(piece)

    def _believe(self) -> None:
        """Check the chunk that is complete now."""
        number = self.verified // self.blob.chunk
        if self._tail.hexdigest() != self.blob.chunks[number]:
            self._cut(self.verified)
            raise WrongChunkError(self.blob, number)
        for data in self._read(self.verified, self.length):
            self._whole.update(data)
        self._tail = hashlib.sha256()
        with self.grown:
            self.verified = self.length
            self.grown.notify_all()

    def _take_over(self) -> None:
        """Hash what an earlier try has left. It counts up to the first wrong chunk; a last one may be incomplete."""
        size = os.fstat(self._file).st_size
        if size > self.blob.size:
            os.ftruncate(self._file, self.blob.size)
            size = self.blob.size
        with contextlib.suppress(WrongChunkError):
            while self.length < size:
                end = min(self.verified + self.blob.chunk, self.blob.size)
                for data in self._read(self.length, min(end, size)):
                    self._tail.update(data)
                    self.length += len(data)
                if self.length == end:
                    self._believe()

    def _cut(self, length: int) -> None:
        os.ftruncate(self._file, length)
        self.length = length
        self._tail = hashlib.sha256()
        if length < self.verified:
            self.verified, self._whole = 0, hashlib.sha256()

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        while start < end:
            data = os.pread(self._file, min(PIECE, end - start), start)
            if not data:
                raise TargetError(f"{self.path}: somebody has cut it short")
            start += len(data)
            yield data


def sync_folder(folder: Path) -> None:
    """Make new names in a folder outlive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
