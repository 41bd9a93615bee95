"""The lock: every package of an image and of its tools, so that a later build is identical."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cumulet.core.errors import UsageError
from cumulet.core.files import write_text

Group = Literal["base", "extra", "boot", "tools", "twins", "formats"]
"""`tools` run here for every image; `twins` are the native programs of the `extra` packages; `formats` run here for the
formats of some boards."""


class LockedPackage(BaseModel):
    """One package file. `path` is relative to a mirror; no mirror is named."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    source: str
    section: str
    path: str
    security: bool = False
    group: Group

    @property
    def file_name(self) -> str:
        """The name of the package file."""
        return self.path.rsplit("/", 1)[-1]


class LockedWheel(BaseModel):
    """One Python wheel for the image, found on the package index by name and version."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    file: str
    sha256: str
    size: int


class Request(BaseModel):
    """What was asked of the resolver."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    suite: str
    components: tuple[str, ...]
    architecture: str
    host_architecture: str
    base: tuple[str, ...]
    extra: tuple[str, ...]
    boot: tuple[str, ...]
    tools: tuple[str, ...]
    formats: tuple[str, ...] = ()
    wheels: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A digest of the whole request."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Lock(BaseModel):
    """The lock of one image. `epoch`: seconds since 1970, the date of the archive; all time stamps in the image."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1] = 1
    image: str
    epoch: int
    request: Request
    packages: tuple[LockedPackage, ...]
    wheels: tuple[LockedWheel, ...] = ()

    def of(self, *groups: Group) -> tuple[LockedPackage, ...]:
        """The packages of these groups, in the order of their names."""
        return tuple(package for package in self.packages if package.group in groups)

    @property
    def digest(self) -> str:
        """A digest of everything the lock names."""
        return hashlib.sha256(make_lock_text(self).encode()).hexdigest()


def make_lock_text(lock: Lock) -> str:
    """The lock as the text of its file: one package a line block, in a stable order."""
    return json.dumps(lock.model_dump(mode="json"), indent=1, sort_keys=True) + "\n"


def write_lock(lock: Lock, path: Path) -> None:
    """Write a lock file, whole or not at all."""
    write_text(path, make_lock_text(lock))


def load_lock(path: Path) -> Lock:
    """Read a lock file. Raises UsageError naming the file if it is not one."""
    try:
        return Lock.model_validate_json(path.read_text())
    except FileNotFoundError as error:
        raise UsageError(f"{path}: no such lock file", hint="make one: cumulet lock RECIPE") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not a lock: it is not text", hint="make it again: cumulet lock RECIPE") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"{where}: {first['msg']}" if where else first["msg"]
        raise UsageError(
            f"{path}: not a lock of this version: {what}", hint="make it again: cumulet lock RECIPE"
        ) from error
