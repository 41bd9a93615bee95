"""manifest.json: everything that went into an image and everything that came out, with digests."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from cumulet_builder.report.facts import Deb, Facts, Output

VERSION = 1


def make_manifest(facts: Facts) -> str:
    """The manifest as JSON text: fixed key order, sorted lists, so that equal builds are equal texts."""
    document: dict[str, Any] = {
        "version": VERSION,
        "image": facts.image,
        "epoch": facts.epoch,
        "suite": facts.suite,
        "architecture": facts.architecture,
        "builder": {"name": "cumulet", "version": facts.builder},
        "lock_sha256": facts.lock_sha256,
        "recipe": {
            "resolved": facts.recipe,
            "fragments": [asdict(fragment) for fragment in facts.fragments],
        },
        "stages": dict(facts.stages),
        "kernel": asdict(facts.kernel) if facts.kernel else None,
        "packages": _debs(facts.debs),
        "wheels": _rows(facts.wheels, "name"),
        "firmware": _rows(facts.firmware, "path"),
        "kubernetes": _rows((item for item in facts.inventory if item.kind != "go-module"), "name"),
        "go_modules": _rows((item for item in facts.inventory if item.kind == "go-module"), "name"),
        "tools": _debs(facts.tools),
        "outputs": _rows(facts.outputs, "name"),
    }
    if facts.repositories:
        document["layer_packages"] = _rows(facts.layer_packages, "name")
        document["repositories"] = _rows(facts.repositories, "name")
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def make_sha256sums(outputs: Iterable[Output]) -> str:
    """The text that `sha256sum -c` checks, run in the published folder."""
    return "".join(f"{output.sha256}  {output.name}\n" for output in sorted(outputs, key=lambda o: o.name))


def _debs(debs: Iterable[Deb]) -> list[dict[str, Any]]:
    ordered = sorted(debs, key=lambda deb: (deb.name, deb.architecture))
    return [{**asdict(deb), "licence_class": deb.licence_class} for deb in ordered]


def _rows(values: Iterable[Any], key: str) -> list[dict[str, Any]]:
    return sorted((asdict(value) for value in values), key=lambda row: str(row[key]))
