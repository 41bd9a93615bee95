"""What the command line says about one build, apart from the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """Folders and choices of a build; the recipe decides everything that ends up in the image."""

    out: Path
    cache: Path
    overrides: tuple[str, ...] = ()
    mirror: str | None = None
    lock: Path | None = None
    update: bool = False
    vendor: Path | None = None
