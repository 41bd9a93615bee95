"""Is it the model that was signed? Asked of an archive before it is imported, and of files before they are loaded."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from cumulet.core.errors import TargetError, UsageError
from cumulet.models.documents import CARD, CARD_SIGNATURE, Card, Release, read_card, read_signed
from cumulet.models.image import release_paths
from cumulet.packages import load_public

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

PIECE = 1 << 20
SUFFIX = ".release.json"


def check_archive(archive: Path, key: Path) -> Release:
    """The release of an archive whose every blob is what was signed. Raises TargetError that names the wrong one."""
    release = load_release(archive, load_public(key))
    wanted = {f"blobs/sha256/{blob.sha256}": blob for blob in release.blobs}
    seen = set()
    try:
        with tarfile.open(archive, "r|") as members:
            for member in members:
                if not member.name.startswith("blobs/"):
                    continue
                blob = wanted.get(member.name)
                stream = members.extractfile(member)
                if blob is None or stream is None:
                    raise TargetError(f"{archive}: {member.name}: the release does not name it")
                digest = hashlib.sha256()
                while data := stream.read(PIECE):
                    digest.update(data)
                if digest.hexdigest() != blob.sha256:
                    raise TargetError(f"{archive}: {member.name}: is not what was signed", hint="fetch it again")
                seen.add(member.name)
    except (tarfile.TarError, OSError) as error:
        raise TargetError(f"{archive}: cannot be read: {error}", hint="fetch it again") from error
    if missing := sorted(set(wanted) - seen):
        raise TargetError(f"{archive}: {missing[0]}: is missing", hint="fetch it again")
    return release


def read_release(path: Path, key: Ed25519PublicKey) -> Release:
    """The release of an archive, or in a file `....release.json`. Raises UsageError or TargetError."""
    name = str(path)
    return load_release(path.with_name(path.name.removesuffix(SUFFIX)) if name.endswith(SUFFIX) else path, key)


def load_release(archive: Path, key: Ed25519PublicKey) -> Release:
    """The release beside an archive. Raises UsageError if there is none, TargetError if the key has not signed it."""
    document, signature = release_paths(archive)
    try:
        text, lines = document.read_bytes(), signature.read_bytes()
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}", hint="cumulet model build makes it") from error
    return read_signed(Release, text, lines, key, str(document))


def check_files(folder: Path, key: Ed25519PublicKey) -> Card:
    """The card of a folder whose every file is what was signed; more than was signed is wrong too.

    To be called before a model is loaded, wherever it is mounted. Raises TargetError.
    """
    card = read_card(folder, key)
    for file in card.files:
        path = folder / file.path
        try:
            with path.open("rb") as stream:
                found = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError as error:
            raise TargetError(f"{path}: {error.strerror}", hint="the model is not whole: import it again") from error
        if found != file.sha256:
            raise TargetError(f"{path}: is not what was signed", hint="import the model again")
    known = {CARD, CARD_SIGNATURE, *(file.path for file in card.files)}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name not in known and not path.is_dir():
            raise TargetError(f"{path}: was not signed", hint="who has put it there?")
    return card
