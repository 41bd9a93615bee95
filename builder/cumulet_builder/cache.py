"""The content-addressed store: files by their SHA-256, stage results by their key.

files/ab/abcd...        a downloaded file, named by the SHA-256 of its content
stages/NAME/KEY/        what a stage made, with `stage.json`: its inputs and digests
tmp/                    half-written things; whoever builds alone removes what killed builds left
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NotRequired, TypedDict

from cumulet.core.errors import ToolError
from cumulet.core.files import publishing, raise_os_error, sha256_file, write_text
from cumulet_builder.toolbox import remove_tree

TAG = "Signature: 8a477f597d28d172789f06886806bc55\n# A cache of cumulet; safe to delete.\n"
RECORD = "stage.json"


class FileEntry(TypedDict):
    """Size in bytes and SHA-256 of a file of a stage's result."""

    size: int
    sha256: str


class Record(TypedDict):
    """What is written beside a stage's result. Of `folders` only the names are known, not the content."""

    name: str
    key: str
    inputs: dict[str, str]
    files: dict[str, FileEntry]
    folders: NotRequired[list[str]]


@dataclass(frozen=True)
class Cache:
    """The store in folder `root`. Made by `open_cache`."""

    root: Path

    def file(self, digest: str) -> Path:
        """Where the file with this SHA-256 is or would be."""
        return self.root / "files" / digest[:2] / digest

    def have_file(self, digest: str, size: int | None = None) -> bool:
        """Whether the file is here; with `size`, a file of another size counts as not here."""
        path = self.file(digest)
        return path.is_file() and (size is None or path.stat().st_size == size)

    def drop_damaged_file(self, digest: str) -> bool:
        """Remove the file if it is here and its content is not what its name says; whether that was so."""
        path = self.file(digest)
        if not path.is_file() or sha256_file(path) == digest:
            return False
        path.unlink(missing_ok=True)
        return True

    def add_file(self, path: Path, digest: str, name: str = "") -> Path:
        """Move a file in after checking its content; raises ToolError, with its `name` for people, if it is another."""
        found = sha256_file(path)
        if found != digest:
            path.unlink()
            raise ToolError(
                f"{name or path.name}: wrong checksum: expected sha256 {digest}, got {found}",
                hint="the file was removed; run the same command again",
            )
        target = self.file(digest)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
        return target

    def stage(self, name: str, key: str) -> Path:
        """Where the result of a stage is or would be."""
        return self.root / "stages" / name / key

    def have_stage(self, name: str, key: str) -> bool:
        """Whether the stage's result is here, with every folder, and every file has the size that was recorded."""
        folder = self.stage(name, key)
        record = read_record(folder)
        if record is None:
            return False
        return all((folder / name).is_dir() for name in record.get("folders", [])) and all(
            (folder / file).is_file() and (folder / file).stat().st_size == entry["size"]
            for file, entry in record["files"].items()
        )

    def check_stage(self, name: str, key: str) -> list[str]:
        """Names of what is missing in the stage's result, and of files whose content is not what was recorded."""
        folder = self.stage(name, key)
        record = read_record(folder)
        if record is None:
            return [RECORD]
        missing = [name for name in record.get("folders", []) if not (folder / name).is_dir()]
        return missing + [
            file
            for file, entry in record["files"].items()
            if not (folder / file).is_file() or sha256_file(folder / file) != entry["sha256"]
        ]

    def drop_stage(self, name: str, key: str) -> None:
        """Forget a stage's result."""
        remove_tree(self.stage(name, key))

    @contextlib.contextmanager
    def making(self, name: str, key: str, inputs: Mapping[str, str]) -> Iterator[Path]:
        """Fill a stage's result: yields an empty folder that is published whole, or not at all."""
        with publishing(self.stage(name, key)) as folder:
            yield folder
            files = {
                str(path.relative_to(folder)): {"size": path.stat().st_size, "sha256": sha256_file(path)}
                for path in sorted(folder.iterdir())
                if path.is_file() and not path.is_symlink()
            }
            folders = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.is_symlink())
            record = {"name": name, "key": key, "inputs": dict(inputs), "files": files, "folders": folders}
            write_text(folder / RECORD, json.dumps(record, indent=1, sort_keys=True))

    @contextlib.contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder for half-made things, removed at the end."""
        (self.root / "tmp").mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.root / "tmp"))
        try:
            yield folder
        except OSError as error:
            raise_os_error(error, folder)
        finally:
            remove_tree(folder)

    @contextlib.contextmanager
    def in_use(self) -> Iterator[None]:
        """Held by everything that makes things in the cache. Whoever comes alone clears up after killed builds."""
        with (self.root / ".lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pass
            else:
                self._sweep()
            fcntl.flock(stream, fcntl.LOCK_SH)
            yield

    @contextlib.contextmanager
    def only_maker(self, name: str, key: str) -> Iterator[None]:
        """Wait until nobody else makes this stage: two builds may want the same one."""
        path = self.stage(name, key).with_name(f".{key}.lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def _sweep(self) -> None:
        for left in [*self.root.glob("tmp/*"), *self.root.glob("stages/*/.*")]:
            if left.is_dir():
                remove_tree(left)
            else:
                left.unlink(missing_ok=True)


def open_cache(root: Path) -> Cache:
    """The cache in `root`, made if it is not there."""
    try:
        root.mkdir(parents=True, exist_ok=True)
        if not (root / "CACHEDIR.TAG").exists():
            write_text(root / "CACHEDIR.TAG", TAG)
    except OSError as error:
        raise ToolError(f"{root}: {error.strerror}", hint="name a folder you may write: --cache FOLDER") from error
    return Cache(root)


def default_root() -> Path:
    """`$XDG_CACHE_HOME/cumulet`, or `~/.cache/cumulet`."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "cumulet"


def read_record(folder: Path) -> Record | None:
    """The record beside a stage's result, or None if there is none that can be read."""
    try:
        record: Record = json.loads((folder / RECORD).read_text())
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "files" in record else None


def make_key(name: str, inputs: Mapping[str, str], needs: Mapping[str, str]) -> str:
    """The key of a stage: a digest of its name, its inputs and the keys of the stages it needs."""
    text = json.dumps([name, dict(inputs), dict(needs)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
