"""sky.yaml: the Beidou terminal of a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from cumulet.central.hub.sky import SkySettings
from cumulet.core.documents import load_document, validate


class SkyDocument(BaseModel):
    """The whole of sky.yaml."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1]
    device: str = Field(min_length=1, description="The serial line of the terminal.")
    keys: str = Field("keys", description="The folder with a file NAME.key for every site.")
    dialect: Literal["2.1", "3"] = Field("2.1", description="The sentences that the terminal speaks.")


def load_sky(path: Path) -> SkySettings:
    """The document in a file; its paths begin beside it. Raises UsageError with every problem."""
    found = validate(SkyDocument, load_document(path, kind="sky"), "sky")
    return SkySettings(path.parent / found.device, path.parent / found.keys, found.dialect)
