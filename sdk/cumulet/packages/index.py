"""The index: what there is, how big, and the SHA-256 of every chunk. Nothing is believed that it does not say."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, model_validator

from cumulet import __version__
from cumulet.core.errors import TargetError
from cumulet.core.signed import Part, Sha256, matching

VERSION = 1
SMALLEST_CHUNK, LARGEST_CHUNK = 1 << 20, 4 << 20
Kind = Literal["files", "image", "model"]
KINDS: tuple[Kind, ...] = ("files", "image", "model")


Digest = Annotated[str, matching(r"sha256:[0-9a-f]{64}", "not a digest")]
Tree = Annotated[str, matching(r"([0-9a-f]{64})?", "not a SHA-256")]
Name = Annotated[
    str, matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "not a name: use lower-case letters, digits and '-'")
]
Version = Annotated[
    str, matching(r"[0-9A-Za-z][0-9A-Za-z.+~_-]{0,63}", "not a version: use letters, digits and . + ~ _ -")
]
ImageName = Annotated[str, matching(r"[a-z0-9][\w./:@-]{0,254}", "not an image's name")]


class Image(Part):
    """A container image of an archive: its name, and the digest that containerd shows for it."""

    name: ImageName
    digest: Digest


class Package(Part):
    """One package.

    `files`: a tar archive, unpacked on every device; `image`: an OCI archive, imported into
    containerd; `model`: one file. `tree` is the digest of what comes out of it on the disk.
    """

    name: Name
    version: Version
    kind: Kind
    architecture: Literal["", "arm64", "amd64"] = Field("", description="Devices that it is for; empty: all")
    late: bool = Field(False, description="Only tasks need it: it comes after Kubernetes")
    size: int = Field(ge=1)
    sha256: Sha256
    tree: Tree = ""
    images: tuple[Image, ...] = ()
    chunk: int = Field(LARGEST_CHUNK, ge=SMALLEST_CHUNK, le=LARGEST_CHUNK)
    chunks: tuple[Sha256, ...]

    @property
    def title(self) -> str:
        """How it is named to people."""
        return f"{self.name} {self.version}"

    @model_validator(mode="after")
    def _fits_together(self) -> Package:
        if len(self.chunks) != -(-self.size // self.chunk):
            raise ValueError(f"{len(self.chunks)} chunks of {self.chunk} bytes are not {self.size} bytes")
        if bool(self.images) != (self.kind == "image") or bool(self.tree) == (self.kind == "image"):
            raise ValueError("an image has images, other packages have a tree")
        return self


class Index(Part):
    """What a store has. `serial` grows with every change, so that an old index is known as one."""

    version: Literal[1] = 1
    serial: int = Field(0, ge=0)
    packages: tuple[Package, ...] = ()

    def find(self, name: str, architecture: str) -> Package | None:
        """The package of this name for a device's architecture: one made for it before one made for all."""
        fitting = [each for each in self.packages if each.name == name and each.architecture in ("", architecture)]
        return max(fitting, key=lambda each: each.architecture, default=None)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all packages, each once, in the order of the index."""
        return tuple(dict.fromkeys(each.name for each in self.packages))


def parse_index(data: bytes, where: str) -> Index:
    """The index in a text whose signature has been checked. Raises TargetError."""
    try:
        values: Any = json.loads(data)
        version = values.get("version")
        if isinstance(version, int) and version > VERSION:
            raise TargetError(
                f"{where}: an index of version {version}; this cumulet, {__version__}, knows up to {VERSION}",
                hint="pip install --upgrade cumulet-board",
            )
        return Index.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise TargetError(f"{where}: index: {place}: {first['msg']}", hint="publish it again") from error
    except (ValueError, AttributeError) as error:
        raise TargetError(f"{where}: not an index of packages", hint="publish it again") from error


def make_index_text(index: Index) -> bytes:
    """The text of an index: the same bytes for the same index."""
    return (json.dumps(index.model_dump(), indent=1, sort_keys=True) + "\n").encode()
