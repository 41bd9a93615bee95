"""Licence texts of packages that are opened but not installed, kept with the result of the stage that opened them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

NAME = "copyright.json"
START, END = "/usr/share/doc/", "/copyright"


def write_copyright(deb: Path, folder: Path) -> None:
    """Write the licence text of a package file into a stage's folder."""
    write_copyrights([deb], folder)


def write_copyrights(debs: Sequence[Path], folder: Path) -> None:
    """Write the licence texts of package files into a stage's folder."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    texts = {}
    for deb in debs:
        with DebFile(str(deb)) as archive:
            data = archive.data.tgz()
            for member in data:
                path = "/" + str(member.name).removeprefix("./")
                if member.isfile() and path.startswith(START) and path.endswith(END):
                    source = data.extractfile(member)
                    texts[path[len(START) : -len(END)]] = source.read().decode(errors="replace") if source else ""
    (folder / NAME).write_text(json.dumps(texts, indent=1, sort_keys=True) + "\n")


def load_copyrights(stages: Iterable[Path]) -> dict[str, str]:
    """Package -> its licence text, from the folders of stages that have kept some."""
    texts: dict[str, str] = {}
    for path in (stage / NAME for stage in stages):
        if path.is_file():
            texts |= json.loads(path.read_text())
    return texts
