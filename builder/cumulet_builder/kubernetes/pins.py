"""Pins: the versions of Kubernetes that can be baked in, as data under recipes/kubernetes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from cumulet.core.documents import load_document, validate
from cumulet.core.errors import UsageError

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Program(_Part):
    """A main package: the module whose version is its own, and where it goes in the root (or nowhere)."""

    module: str
    path: str = ""


class KubeadmPin(_Part):
    """A version built from Go modules; `sources` is a folder beside the pin."""

    version: Literal[1]
    distribution: Literal["kubeadm"]
    release: str
    sources: str
    programs: dict[str, Program]
    stamps: dict[str, str]


class K3sAssets(_Part):
    """The files of one architecture: their names in the release, and what they must hold."""

    binary: str
    images: str
    sums: str
    binary_sha256: Digest | None = None
    images_sha256: Digest | None = None


class K3sPin(_Part):
    """A release of k3s. `base` is the address that file names are put behind."""

    version: Literal[1]
    distribution: Literal["k3s"]
    release: str
    base: str
    flags: str = Field(description="The list of flags that settings are checked against, beside the pin")
    assets: dict[Literal["arm64", "amd64"], K3sAssets]


class K3sFlags(_Part):
    """The names of the flags of `k3s server` and `k3s agent`, without the dashes."""

    version: Literal[1]
    both: tuple[str, ...]
    agent: tuple[str, ...] = ()
    server: tuple[str, ...] = ()


Pin = KubeadmPin | K3sPin
TYPES: dict[str, type[KubeadmPin] | type[K3sPin]] = {"kubeadm": KubeadmPin, "k3s": K3sPin}


def find_pin(recipes: Path, distribution: str, version: str | None) -> Path:
    """The file of a pin: that version's, or the newest. Raises UsageError naming those there are."""
    folder = recipes / "kubernetes" / distribution
    pins = sorted(folder.glob("v*.yaml"), key=lambda path: _sort_key(path.stem))
    if version is None and pins:
        return pins[-1]
    for path in pins:
        if path.stem in (version, f"v{version}"):
            return path
    known = ", ".join(path.stem for path in pins) or "none"
    raise UsageError(
        f"kubernetes: {distribution} {version}: no such pin in {folder}",
        hint=f"pinned are: {known}; leave version out for the newest",
    )


def load_pin(recipes: Path, distribution: str, version: str | None = None) -> Pin:
    """The pin of a version, or the newest. Raises UsageError with every problem in the file."""
    return load_pin_file(find_pin(recipes, distribution, version), distribution)


def load_pin_file(path: Path, distribution: str) -> Pin:
    """A pin file. Raises UsageError with every problem in it."""
    kind = f"pin of {distribution}"
    return validate(TYPES[distribution], load_document(path, kind=kind), kind)


def load_flags(path: Path) -> dict[str, set[str]]:
    """`server` and `agent` -> the names of their flags. Raises UsageError with every problem in the file."""
    kind = "list of flags"
    flags = validate(K3sFlags, load_document(path, kind=kind), kind)
    return {"server": {*flags.both, *flags.server}, "agent": {*flags.both, *flags.agent}}


def _sort_key(text: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", text)]
