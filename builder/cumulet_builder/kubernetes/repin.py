"""New checksums for a pin of k3s: read from the release's own list, written as a whole file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import write_text
from cumulet_builder.download import fetch_text
from cumulet_builder.kubernetes.k3s import make_url, read_sums
from cumulet_builder.kubernetes.pins import K3sPin, find_pin, load_pin_file


@dataclass(frozen=True, slots=True)
class PinPlan:
    """What would be written where; `lines` are for people."""

    path: Path
    pin: K3sPin
    lines: tuple[str, ...]


def make_plan(recipes: Path, version: str, base: str | None = None) -> PinPlan:
    """Fetch the lists of checksums of a version. A version that has no pin yet starts from the newest one.

    Raises ToolError if a list cannot be had or lacks a file.
    """
    release = version if version.startswith("v") else f"v{version}"
    try:
        source = find_pin(recipes, "k3s", release)
    except UsageError:
        source = find_pin(recipes, "k3s", None)
    old = load_pin_file(source, "k3s")
    assert isinstance(old, K3sPin)  # noqa: S101 - the type that was asked for
    pin = old.model_copy(update={"release": release, **({"base": base} if base else {})})
    assets, lines = dict(pin.assets), []
    for architecture, each in pin.assets.items():
        url = make_url(pin, each.sums)
        sums = read_sums(fetch_text(url))
        missing = [name for name in (each.binary, each.images) if name not in sums]
        if missing:
            raise ToolError(f"{url}: no checksum of {', '.join(missing)}", hint="check the release's file names")
        assets[architecture] = each.model_copy(
            update={"binary_sha256": sums[each.binary], "images_sha256": sums[each.images]}
        )
        lines += [f"{sums[name]}  {name}" for name in (each.binary, each.images)]
    path = source.with_name(f"{release}.yaml")
    return PinPlan(path, pin.model_copy(update={"assets": assets, "base": old.base}), tuple(lines))


def write_pin(plan: PinPlan) -> None:
    """Write the pin as a whole file."""
    import yaml  # noqa: PLC0415 - slow to import

    document: dict[str, Any] = plan.pin.model_dump(mode="json", exclude_none=True)
    head = f"# A release of k3s. Its checksums were written by `cumulet pin k3s {plan.pin.release}`.\n"
    write_text(plan.path, head + yaml.safe_dump(document, sort_keys=False))
