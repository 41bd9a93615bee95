"""What went in: the `inventory.json` of a stage, read by the manifest and the bill of materials."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

Kind = Literal["go-module", "program", "image", "file"]


@dataclass(frozen=True, slots=True)
class Component:
    """One thing in the image. A Go module has no SHA-256 of its own: its programs do."""

    name: str
    version: str
    kind: Kind
    licence: str = ""
    sha256: str = ""


def write_inventory(components: Iterable[Component], path: Path) -> None:
    """Write components sorted by kind and name, each once."""
    rows = sorted({(each.kind, each.name, each.version): each for each in components}.items())
    path.write_text(json.dumps([asdict(each) for _, each in rows], indent=1) + "\n")


def load_components(path: Path) -> list[Component]:
    """Read back what `write_inventory` wrote."""
    return [Component(**each) for each in json.loads(path.read_text())]
