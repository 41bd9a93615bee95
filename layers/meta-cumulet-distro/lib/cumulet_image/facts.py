"""What an image's packages are, in the words that Cumulet's reports are made of. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

VERSION = 1


def make_package(name: str, installed: Mapping[str, str], data: Mapping[str, str]) -> dict[str, Any]:
    """One package: `installed` is the package manager's row, `data` what oe-core keeps of it (pkgdata)."""

    def say(key: str, otherwise: str = "") -> str:
        return data.get(f"{key}:{name}") or data.get(key) or otherwise

    files = json.loads(say("FILES_INFO", "{}"))
    return {
        "name": name,
        "version": installed.get("ver") or say("PKGV"),
        "architecture": installed.get("arch", ""),
        "recipe": say("PN", name),
        "recipe_version": say("PV"),
        "layer": say("LAYER"),
        "licence": say("LICENSE"),
        "files": sorted(files),
    }


def make_document(packages: Iterable[Mapping[str, Any]], kernel: Mapping[str, Any]) -> str:
    """The document beside the image, as JSON text in a fixed order."""
    ordered = sorted((dict(package) for package in packages), key=lambda package: package["name"])
    document = {"version": VERSION, "packages": ordered, "kernel": dict(kernel)}
    return json.dumps(document, indent=1, sort_keys=True) + "\n"
