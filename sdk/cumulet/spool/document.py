"""spool.yaml: a tier's place on the way up, for the service of a device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cumulet.core.documents import Value, load_document, validate_whole
from cumulet.core.errors import Problem
from cumulet.spool.look import FOLDER
from cumulet.spool.node import NodeSettings

Url = Annotated[str, Field(pattern=r"^https?://[^/\s]+(/\S*)?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class SpoolDocument(BaseModel):
    """The whole of spool.yaml. Paths begin beside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    name: Name = Field(description="The cluster's name.")
    folder: str = Field(str(FOLDER), description="Where results are kept.")
    listen: str = Field("127.0.0.1", description="Address of the entry.")
    port: int = Field(8444, ge=0, le=65535, description="Its port; 0: nothing comes from below.")
    budget: int = Field(1024, ge=1, description="Room on disk in MiB, for what comes in and for what goes up each.")
    up: tuple[Url, ...] = Field((), description="The tier above; several are tried in order.")
    authority: str = Field("", description="Certificates of this authority are let in, and checked.")
    certificate: str = Field("", description="Of this tier.")
    key: str = Field("", description="Of this tier.")
    up_authority: str = Field("", description="Of the tier above, if it has another one.")
    up_certificate: str = Field("", description="Shown to the tier above, if another one.")
    up_key: str = Field("", description="Of that certificate.")
    readers: tuple[str, ...] = Field((), description="Who may fetch what has arrived: names of client certificates.")
    collect: str = Field("", description="Folder in which tasks leave results; each has a folder of its own there.")
    node: str = Field("", description="This device's name, for what it collects.")
    trusted: tuple[Name, ...] = Field((), description="Hubs below, which bring results of their children.")
    reports: str = Field("", description="Folder of the recorder's reports, which go up as well.")
    mark: int = Field(0, ge=0, lt=1 << 32, description="Firewall mark of what goes up: 7103 with the uplink.")


def load_spool(path: Path) -> tuple[NodeSettings, Path | None]:
    """The settings in a file, and the folder of reports. Raises UsageError with every problem."""
    found = validate_whole(SpoolDocument, load_document(path, kind="spool"), "spool", find_problems)
    files = {name: path.parent / text for name in FILES if (text := getattr(found, name))}
    settings = NodeSettings(
        name=found.name,
        folder=path.parent / found.folder,
        listen=found.listen,
        port=found.port,
        budget=found.budget << 20,
        up=found.up,
        trusted=frozenset(found.trusted),
        mark=found.mark,
        authority=files.get("authority"),
        certificate=files.get("certificate"),
        key=files.get("key"),
        up_authority=files.get("up_authority"),
        up_certificate=files.get("up_certificate"),
        up_key=files.get("up_key"),
        readers=frozenset(found.readers),
        collect=files.get("collect"),
        node=found.node,
    )
    return settings, path.parent / found.reports if found.reports else None


CERTIFICATES = ("authority", "certificate", "key")
FILES = (*CERTIFICATES, "up_authority", "up_certificate", "up_key", "collect")


def find_problems(made: SpoolDocument, document: Value) -> list[Problem]:
    """What a single field cannot know."""
    if bool(made.up_certificate) != bool(made.up_key):
        return [document.place.problem("up_certificate and up_key: one without the other", "both, or none")]
    given = [name for name in CERTIFICATES if getattr(made, name)]
    if len(given) in (0, len(CERTIFICATES)):
        return []
    missing = ", ".join(name for name in CERTIFICATES if name not in given)
    return [document.place.problem(f"{', '.join(given)}: without {missing}", "all three, or none")]
