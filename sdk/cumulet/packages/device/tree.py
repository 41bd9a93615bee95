"""A package as files of a device: unpacked whole or not at all, and proved by digest.

A tree's digest is over what lies on the disk, not over the archive. It is computed once
when the tree is made; as long as no size and no time of a file has changed it holds,
otherwise it is computed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from cumulet.core.errors import TargetError
from cumulet.packages.device import zstd
from cumulet.packages.device.chunks import sync_folder


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive (plain, gzip, xz, zstd) into a new folder. Raises TargetError."""
    folder.mkdir(parents=True)
    try:
        with archive.open("rb") as stream, _open_tar(stream) as members:
            for member in members:
                members.extract(_make_safe(member, folder), folder, filter="fully_trusted")
    except (tarfile.TarError, EOFError, ValueError) as error:
        raise TargetError(f"{archive.name}: cannot be unpacked: {error}", hint="publish it again") from error
    except OSError as error:
        raise TargetError(f"{archive.name}: cannot be unpacked: {error.strerror or error}") from error


@contextlib.contextmanager
def _open_tar(stream: IO[bytes]) -> Iterator[tarfile.TarFile]:
    packed = stream.read(4) == zstd.MAGIC
    stream.seek(0)
    if not packed:
        with tarfile.open(fileobj=stream, mode="r|*") as members:
            yield members
        return
    reader = zstd.Reader(stream)
    try:
        with tarfile.open(fileobj=cast("IO[bytes]", reader), mode="r|") as members:
            yield members
    finally:
        reader.close()


def _make_safe(member: tarfile.TarInfo, folder: Path) -> tarfile.TarInfo:
    if not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        raise TargetError(f"{member.name}: a package has files, folders and links, nothing else")
    # Nothing lands outside of the folder, no set-user-id bits, nobody but the owner may write. A symbolic link may
    # name what the device has, such as its Python; a second name for a file may not.
    keep = tarfile.data_filter if member.islnk() else tarfile.tar_filter
    safe = keep(member, str(folder))
    return safe.replace(uid=0, gid=0, uname="", gname="", deep=False)


def digest_tree(folder: Path) -> str:
    """The digest of a folder's content: names, contents, targets of links, and what may be executed."""
    whole = hashlib.sha256()
    for path, facts in _walk(folder):
        name = path.relative_to(folder).as_posix()
        if stat.S_ISLNK(facts.st_mode):
            line = f"link {path.readlink().as_posix()!r} {name!r}"
        elif stat.S_ISDIR(facts.st_mode):
            line = f"folder {name!r}"
        else:
            kind = "program" if facts.st_mode & 0o100 else "file"
            line = f"{kind} {digest_file(path)} {name!r}"
        whole.update(f"{line}\n".encode())
    return whole.hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def make_mark(path: Path) -> str:
    """What changes when somebody writes to a file, or to one in a folder; reading sizes and times only."""
    whole = hashlib.sha256()
    for each, facts in [(path, path.lstat()), *(_walk(path) if path.is_dir() else ())]:
        whole.update(f"{each} {facts.st_mode} {facts.st_size} {facts.st_mtime_ns}\n".encode())
    return whole.hexdigest()


def _walk(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        yield Path(entry.path), entry.stat(follow_symlinks=False)
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(Path(entry.path))


class Home:
    """Where packages lie on a device; `top` is /var/lib/cumulet but in tests."""

    def __init__(self, top: Path) -> None:
        self.blobs = top / "blobs"
        self._folders = {"files": top / "packages", "model": top / "models"}

    def place(self, package: dict[str, Any]) -> Path:
        """The folder or file that a package is put to."""
        return self._folders[package["kind"]] / str(package["name"]) / str(package["sha256"])

    def have(self, path: Path, digest: str) -> bool:
        """Whether a file or tree is there and has this digest."""
        proof = self._proof(path)
        try:
            known = json.loads(proof.read_text())
            if known == {"path": str(path), "digest": digest, "mark": make_mark(path)}:
                return True
            return (digest_tree(path) if path.is_dir() else digest_file(path)) == digest
        except (OSError, ValueError):
            # Without a proof nobody has ever looked at all of it: what is there is half of something.
            return False

    def prove(self, path: Path, digest: str) -> None:
        """Remember that a file or tree has been found to have this digest."""
        proof = self._proof(path)
        proof.parent.mkdir(parents=True, exist_ok=True)
        new = proof.with_suffix(".new")
        new.write_text(json.dumps({"path": str(path), "digest": digest, "mark": make_mark(path)}))
        new.replace(proof)

    def install(self, package: dict[str, Any]) -> None:
        """Put a package in its place from its blob, and make it the current one. Raises TargetError."""
        path, blob = self.place(package), self.blobs / package["sha256"]
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(".new-*"):
            shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
        if not self.have(path, package["tree"]):
            new = path.parent / f".new-{package['sha256']}"
            if package["kind"] == "files":
                unpack(blob, new)
            else:
                # One file under two names: a model takes its space once.
                new.hardlink_to(blob)
            have = digest_tree(new) if package["kind"] == "files" else digest_file(new)
            if have != package["tree"]:
                raise TargetError(
                    f"{package.get('title', package['name'])}: what came out of it is not what the signed index says"
                )
            os.sync()
            self._replace(new, path)
            self.prove(path, package["tree"])
        link = path.parent / ".new-link"
        link.symlink_to(path.name)
        link.replace(path.parent / "current")
        sync_folder(path.parent)

    def is_current(self, package: dict[str, Any]) -> bool:
        """Whether a package is the one that its link `current` names."""
        with contextlib.suppress(OSError):
            return (self.place(package).parent / "current").readlink() == Path(package["sha256"])
        return False

    def drop(self, names: list[str]) -> None:
        """Remove files of the folder of blobs; those that are not there are passed over."""
        for name in names:
            (self.blobs / Path(name).name).unlink(missing_ok=True)
            self._proof(self.blobs / Path(name).name).unlink(missing_ok=True)

    def _replace(self, new: Path, path: Path) -> None:
        """A damaged tree goes aside first: a folder that is not empty cannot be renamed over."""
        if path.is_dir():
            aside = path.parent / f".new-old-{path.name}"
            path.rename(aside)
            new.rename(path)
            shutil.rmtree(aside)
        else:
            new.replace(path)

    def _proof(self, path: Path) -> Path:
        kind = "blob" if path.parent == self.blobs else path.parent.parent.name
        return self.blobs.parent / "proofs" / f"{kind}-{path.name}.json"
