"""The recipe: the types that every fragment is checked against.

One declaration gives the type, the default, the check, the documented field and
the JSON Schema. A resolved recipe is frozen; paths and progress live elsewhere.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from cumulet_builder.recipe.board import Board, Kernel, Qemu
from cumulet_builder.recipe.radio import Gnss, Modem
from cumulet_builder.recipe.values import (
    Architecture,
    Hostname,
    ImagePath,
    Mode,
    Module,
    Name,
    Network,
    Package,
    Part,
    Ports,
    PublicKey,
    Size,
    Unit,
    parse_size,
)

__all__ = [
    "Architecture",
    "Board",
    "Disk",
    "File",
    "Firewall",
    "Kernel",
    "Kubernetes",
    "Node",
    "Part",
    "Qemu",
    "Recipe",
    "SecureBoot",
    "SizeBudget",
    "Ssh",
    "Trim",
    "Yocto",
    "parse_size",
]


class Kubernetes(Part):
    """Which Kubernetes is baked in, and where its programs come from."""

    distribution: Literal["k3s", "kubeadm"]
    version: str | None = Field(None, description="Pinned version; default: the distribution's newest pin")
    source: Literal["release", "file", "modules"] | None = Field(
        None, description="k3s: release or file; kubeadm: modules. Default: the distribution's first"
    )
    files: dict[Literal["binary", "images"], str] = Field(
        {}, description="source file: paths of the k3s binary and of its airgap images"
    )
    pod_cidr: Network = Field("10.42.0.0/16", description="Addresses of pods")
    service_cidr: Network = Field("10.43.0.0/16", description="Addresses of services")
    addons: tuple[Literal["coredns", "metrics-server"], ...] = Field(
        ("coredns", "metrics-server"), description="What runs in every cluster"
    )


class Ssh(Part):
    """Who may log in. There is no password on any image."""

    enabled: bool = True
    authorized_keys: tuple[PublicKey, ...] = Field((), description="Public keys that may log in as root")


class Firewall(Part):
    """What the node answers to beside ssh, Kubernetes and its site."""

    enabled: bool = Field(True, description="Drop what comes in on every other port")
    open: tuple[Ports, ...] = Field((), description="More ports, as 8080/tcp or 30000-30100/udp")


class File(Part):
    """A file put into the root file system by the recipe."""

    path: ImagePath = Field(description="Absolute path in the image")
    content: str | None = Field(None, description="Its text")
    source: str | None = Field(None, description="Or: a file to copy, relative to the fragment that names it")
    mode: Mode = Field("0644", description="Permissions, octal")


class SizeBudget(Part):
    """Limits that fail the build when passed."""

    root: Size | None = Field(None, description="Compressed size of the root partition")
    disk: Size | None = Field(None, description="Bytes stored in the disk image (holes not counted)")


class Trim(Part):
    """What is left out of the root file system."""

    documentation: bool = Field(True, description="Drop manual pages, info and /usr/share/doc")
    locales: bool = Field(True, description="Drop translations; C.UTF-8 stays")
    package_manager: bool = Field(True, description="Drop dpkg and apt; the package list stays for scanners")
    drop: tuple[str, ...] = Field((), description="More glob patterns of absolute paths to drop")
    keep: tuple[str, ...] = Field((), description="Glob patterns kept in spite of every drop")


def _check_layer_package(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][A-Za-z0-9.+_-]*", text):
        raise ValueError(f"{text!r} is not the name of a package of a layer; write it like htop, without a version")
    return text


class Yocto(Part):
    """What the yocto engine builds where Debian packages and wheels are named."""

    packages: tuple[Annotated[str, AfterValidator(_check_layer_package)], ...] = Field(
        (), description="Packages of layers that stand for the Debian ones"
    )
    layers: tuple[Name, ...] = Field((), description="Fragments of recipes/kas with the layers that they come from")
    unsupported: str = Field("", description="Why the yocto engine cannot build this, in one sentence")


class Disk(Part):
    """Sizes of the partitions."""

    esp: Size = "160MiB"
    root: Size = Field("320MiB", description="Each of root A and root B")
    data: Size = Field("640MiB", description="Data partition in the image; grows to the end of the disk at first boot")
    verity: bool = Field(
        False, description="Prove every block of the root by a hash on the kernel's command line (dm-verity)"
    )
    compression: Literal["zstd", "lz4hc", "lz4", "none"] = Field("lz4hc", description="Of the root file system")


class SecureBoot(Part):
    """Who signs what UEFI firmware starts. The key stays on this computer."""

    key: str = Field(description="RSA key (PEM, no password), relative to the fragment that names it")
    certificate: str = Field(description="Its certificate (PEM), which the firmware is to know")


class Node(Part):
    """The default of /etc/cumulet/node.yaml; what the machine is told at boot wins over it."""

    role: Literal["none", "single", "control", "master", "worker"] = "none"
    hostname: Hostname | None = Field(None, description="Default: cumulet-<first 6 digits of the machine id>")


class Recipe(Part):
    """A resolved recipe: every fragment merged, every default filled in."""

    version: Literal[1]
    image: Name
    title: str = Field("", description="What the image is for, in one line")
    board: Board
    include: tuple[str, ...] = Field(
        (), exclude=True, description="Fragments merged in first, relative to the file that names them"
    )
    engine: Literal["debian", "yocto"] = "debian"
    suite: str = Field("trixie", description="Debian release")
    components: tuple[str, ...] = ("main",)
    packages: tuple[Package, ...] = Field((), description="Debian packages on top of what board and features bring")
    base_packages: tuple[Package, ...] = Field((), description="Debian packages that features bring")
    replaced_packages: tuple[Package, ...] = Field(
        (), description="Debian packages of other features that one feature leaves out because it brings another"
    )
    wheels: tuple[str, ...] = Field(
        (), description="Python packages from the package index, as `name` or `name==version`"
    )
    pinned_wheels: tuple[Name, ...] = Field(
        (), description="Python packages at the version of requirements.lock, without what they name as needed"
    )
    features: tuple[Name, ...] = Field((), description="Fragments of recipes/features that were merged in")
    modules: tuple[Module, ...] = Field((), description="Kernel modules that features bring, as names or globs")
    kubernetes: Kubernetes | None = None
    modem: Modem | None = None
    gnss: Gnss | None = None
    sdk: bool = Field(False, description="Put the SDK (Python) into the image")
    ssh: Ssh = Ssh()
    firewall: Firewall = Firewall()
    node: Node = Node()
    files: tuple[File, ...] = ()
    mask: tuple[Unit, ...] = Field((), description="systemd units that must not run")
    enable: tuple[Unit, ...] = Field((), description="systemd units to start at boot")
    yocto: Yocto = Yocto()
    trim: Trim = Trim()
    disk: Disk = Disk()
    secure_boot: SecureBoot | None = Field(None, description="Sign boot loader, kernel and command line for UEFI")
    size_budget: SizeBudget = SizeBudget()
    formats: tuple[Literal["disk", "blockmap", "directory", "tar", "oci"], ...] = ("disk", "blockmap")
    test: tuple[Literal["base", "kubernetes", "k3s", "modem", "gnss", "inference"], ...] = Field(
        ("base",), description="Boot checks that `cumulet test` runs"
    )
