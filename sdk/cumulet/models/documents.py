"""What is signed of a model: the card that lies inside it, and the release that says which image it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError

from cumulet.core.errors import TargetError
from cumulet.core.signed import Part, Sha256, matching
from cumulet.packages import Blob, sign, verify

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

CARD, CARD_SIGNATURE = "cumulet-model.json", "cumulet-model.json.sig"
PREFIX = "cumulet.dev/models/"
"""Images of models are called so; no registry answers to it, and none is asked."""
Document = TypeVar("Document", bound=BaseModel)


Name = Annotated[
    str, matching(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "not a name: use lower-case letters, digits, '-'")
]
Revision = Annotated[str, matching(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}", "not a version: use letters, digits and . _ -")]
FilePath = Annotated[str, matching(r"(?!/)(?!.*\.\.)[^\0\n]{1,512}", "not a path inside the model")]


class ModelFile(Part):
    """One file."""

    path: FilePath
    sha256: Sha256
    size: int = Field(ge=0)


class Card(Part):
    """What a model is, file by file; a program that loads it can check that, wherever the files came from."""

    version: Literal[1] = 1
    model: Name
    revision: Revision
    files: tuple[ModelFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


class ModelBlob(Part):
    """A layer or document of the image, and the SHA-256 of every `chunk` bytes of it."""

    sha256: Sha256
    size: int = Field(ge=0)
    chunk: int = Field(ge=1)
    chunks: tuple[Sha256, ...]

    def as_blob(self, title: str) -> Blob:
        """As the transfer of packages knows it."""
        return Blob(title, self.sha256, self.size, self.chunk, self.chunks)


class Release(Part):
    """Which image a version of a model is. `digest`: of its index, one for every architecture; or of an archive."""

    version: Literal[1] = 1
    model: Name
    revision: Revision
    way: Literal["image", "store"] = Field("image", description="As an image, or as files unpacked from one archive")
    digest: Annotated[str, matching(r"sha256:[0-9a-f]{64}", "not a digest")]
    blobs: tuple[ModelBlob, ...]

    @property
    def reference(self) -> str:
        """How a task names it: by digest, so that it can never become another one."""
        return f"{PREFIX}{self.model}@{self.digest}"

    @property
    def size(self) -> int:
        """Bytes that go over a link."""
        return sum(blob.size for blob in self.blobs)

    @property
    def title(self) -> str:
        """How it is named to people."""
        return f"{self.model} {self.revision}"


def make_text(document: BaseModel) -> bytes:
    """The text of a document: the same bytes for the same document."""
    return (json.dumps(document.model_dump(), indent=1, sort_keys=True) + "\n").encode()


def sign_text(text: bytes, key: Ed25519PrivateKey) -> bytes:
    """The signature of a text, as it lies beside it."""
    return sign(text, key).encode()


def read_signed(kind: type[Document], text: bytes, signature: bytes, key: Ed25519PublicKey, where: str) -> Document:
    """A document, once its signature is found to be good. Raises TargetError; nothing of it is used before."""
    try:
        verify(text, signature, key, where)
    except TargetError:
        raise TargetError(
            f"{where}: not signed by this key: changed on the way, or made by somebody else",
            hint="the key must be the publisher's public key",
        ) from None
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(each) for each in first["loc"])
        raise TargetError(f"{where}: {place}: {first['msg']}", hint="was it made by a newer cumulet?") from error


def read_card(folder: Path, key: Ed25519PublicKey) -> Card:
    """The card of a model in a folder. Raises TargetError if it is not there or not signed by the key."""
    try:
        text, signature = (folder / CARD).read_bytes(), (folder / CARD_SIGNATURE).read_bytes()
    except OSError as error:
        raise TargetError(
            f"{folder}: no model of ours: {CARD}: {error.strerror}", hint="cumulet model build"
        ) from error
    return read_signed(Card, text, signature, key, str(folder / CARD))
