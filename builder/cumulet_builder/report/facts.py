"""What a build knows about its own result: the facts that every report is made of.

The build fills these values; the modules beside this one are pure functions from
them to documents. Digests are SHA-256 in 64 hex digits, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cumulet_builder.kubernetes.inventory import Component

CLOSED = ("non-free-firmware", "non-free", "contrib")


@dataclass(frozen=True, slots=True)
class Deb:
    """A Debian package in the image. `section` is the archive's own, as `non-free-firmware/kernel`."""

    name: str
    version: str
    architecture: str
    sha256: str
    size: int
    source: str = ""
    section: str = ""
    licences: tuple[str, ...] = ()

    @property
    def licence_class(self) -> str:
        """The part of the archive the package is in: `main` is free, the others are not wholly."""
        area = self.section.partition("/")[0]
        return area if area in CLOSED else "main"


@dataclass(frozen=True, slots=True)
class Wheel:
    """A Python wheel unpacked into the image."""

    name: str
    version: str
    file: str
    sha256: str
    size: int
    licence: str = ""


@dataclass(frozen=True, slots=True)
class Firmware:
    """A firmware file in the image, by its absolute path there, and the package that it came from."""

    path: str
    sha256: str
    size: int
    package: str
    licence_class: str = "non-free-firmware"


@dataclass(frozen=True, slots=True)
class Kernel:
    """The kernel in the image. `release` is what `uname -r` will say."""

    package: str
    version: str
    release: str
    sha256: str
    modules: int = 0
    device_trees: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerPackage:
    """A package that was built from a recipe of a Yocto layer; `licence` is an SPDX expression."""

    name: str
    version: str
    architecture: str
    recipe: str
    recipe_version: str
    layer: str
    licence: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository of layers that the image was built from, at one commit."""

    name: str
    url: str
    commit: str


@dataclass(frozen=True, slots=True)
class Fragment:
    """A recipe document that was merged in, by its path relative to the recipes folder."""

    path: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Output:
    """A published file, by its name in the published folder."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Facts:
    """Everything that the reports of one image say.

    `epoch` is the lock's, in seconds since 1970; `builder` is the version of
    Cumulet; `recipe` is the resolved recipe as plain data; `stages` maps a
    stage's name to its key; `inventory` is what the Kubernetes stages wrote;
    `tools` are packages that the build ran, which are not in the image. Of an
    image from Yocto layers there are `layer_packages` and `repositories` instead;
    `linked` are published bills of materials in another form.
    """

    image: str
    epoch: int
    suite: str
    architecture: str
    builder: str
    recipe: Mapping[str, Any]
    lock_sha256: str
    fragments: tuple[Fragment, ...] = ()
    debs: tuple[Deb, ...] = ()
    tools: tuple[Deb, ...] = ()
    wheels: tuple[Wheel, ...] = ()
    firmware: tuple[Firmware, ...] = ()
    kernel: Kernel | None = None
    inventory: tuple[Component, ...] = ()
    stages: Mapping[str, str] = field(default_factory=dict)
    outputs: tuple[Output, ...] = ()
    layer_packages: tuple[LayerPackage, ...] = ()
    repositories: tuple[Repository, ...] = ()
    linked: tuple[str, ...] = ()
