"""New checksums for a pin of k3s: read from the release's own list, written as a whole file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import write_text
from cumulet_builder.download import fetch_text
from cumulet_builder.kubernetes.k3s import make_url, read_sums
from cumulet_builder.kubernetes.pins import K3sAssets, K3sPin, find_pin, load_pin_file

RELEASE = re.compile(r"v\d+\.\d+\.\d+(-[a-z0-9.]+)?\+k3s\d+")


@dataclass(frozen=True, slots=True)
class PinPlan:
    """What would be written where. `sums`: file name -> SHA-256. Not `changed`: the file says all of it already."""

    path: Path
    pin: K3sPin
    sums: Mapping[str, str]
    changed: bool


def make_plan(recipes: Path, version: str, base: str | None = None) -> PinPlan:
    """Fetch the lists of checksums of a version. A version that has no pin yet starts from the newest one.

    `base` is where the lists are read from this time. Raises ToolError if a list
    cannot be had or lacks a file, UsageError for what is no version of k3s.
    """
    release = version if version.startswith("v") else f"v{version}"
    if not RELEASE.fullmatch(release):
        raise UsageError(f"{version}: not a release of k3s", hint="write it like v1.36.2+k3s1")
    source = _find_source(recipes, release)
    old = load_pin_file(source, "k3s")
    assert isinstance(old, K3sPin)  # noqa: S101 - the type that was asked for
    asked = old.model_copy(update={"release": release, "base": base or old.base})
    assets, sums = dict(old.assets), dict[str, str]()
    for architecture, each in old.assets.items():
        found = fetch_sums(asked, each)
        digests = {"binary_sha256": found[each.binary], "images_sha256": found[each.images]}
        assets[architecture] = each.model_copy(update=digests)
        sums |= found
    pin = old.model_copy(update={"release": release, "assets": assets})
    path = source.with_name(f"{release}.yaml")
    return PinPlan(path, pin, sums, changed=path != source or pin != old)


def fetch_sums(pin: K3sPin, assets: K3sAssets) -> dict[str, str]:
    """File name -> SHA-256 of the files of one architecture, as the release lists them."""
    url = make_url(pin, assets.sums)
    sums = read_sums(fetch_text(url))
    missing = [name for name in (assets.binary, assets.images) if name not in sums]
    if missing:
        raise ToolError(f"{url}: no checksum of {', '.join(missing)}", hint="check the release's file names")
    return {name: sums[name] for name in (assets.binary, assets.images)}


def write_pin(plan: PinPlan) -> None:
    """Write the pin as a whole file."""
    import yaml  # noqa: PLC0415 - slow to import

    document: dict[str, Any] = plan.pin.model_dump(mode="json", exclude_none=True)
    head = f"# A release of k3s. Its checksums were written by `cumulet pin k3s {plan.pin.release}`.\n"
    write_text(plan.path, head + yaml.safe_dump(document, sort_keys=False))


def _find_source(recipes: Path, release: str) -> Path:
    try:
        return find_pin(recipes, "k3s", release)
    except UsageError:
        return find_pin(recipes, "k3s", None)
