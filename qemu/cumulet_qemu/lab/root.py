"""The root of all nodes: a published image with `root.tar.zst`, unpacked once and kept by its digest."""

from __future__ import annotations

import contextlib
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import UsageError
from cumulet.core.files import locked, publishing, sha256_file

ARCHIVE = "root.tar.zst"


def unpack_root(image: Path, store: Path) -> Path:
    """The folder with the image's root, below `store`. Raises UsageError if the image has no archive of it."""
    archive = image / ARCHIVE
    if not archive.is_file():
        raise UsageError(f"{image}: has no {ARCHIVE}", hint="the recipe needs: formats: [tar]")
    folder = store / read_digest(image, archive)[:16]
    with locked(store / ".lock", str(store)):
        if not folder.is_dir():
            with publishing(folder) as fresh:
                words: list[str | Path] = ["tar", "-x", "-p", "--numeric-owner", "--zstd", "-f", archive, "-C", fresh]
                proc.run([*words, "--xattrs", "--xattrs-include=*"])
    return folder


def read_digest(image: Path, archive: Path) -> str:
    """The archive's SHA-256: the one that was published with it, if there is one."""
    with contextlib.suppress(OSError):
        for line in (image / "sha256sums").read_text().splitlines():
            digest, _, name = line.partition("  ")
            if name == ARCHIVE:
                return digest
    return sha256_file(archive)
