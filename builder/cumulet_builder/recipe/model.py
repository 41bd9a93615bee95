"""The recipe and the board: the types that every fragment is checked against.

One declaration gives the type, the default, the check, the documented field and
the JSON Schema. A resolved recipe is frozen; paths and progress live elsewhere.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

Architecture = Literal["arm64", "amd64"]
UNITS = {"": 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
UNIT_TYPES = "service|socket|timer|target|mount|automount|path|slice|swap|device"


def parse_size(text: str) -> int:
    """`400MiB` as a number of bytes. Raises ValueError on anything else."""
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", text.strip())
    if not match or match[2] not in UNITS:
        raise ValueError(f"not a size: {text!r}; write it like 400MiB")
    return int(match[1]) * UNITS[match[2]]


def _check_size(text: str) -> str:
    parse_size(text)
    return text


def _check_network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a network; write it like 10.42.0.0/16") from None
    return text


def _form(pattern: str, what: str) -> tuple[AfterValidator, FieldInfo]:
    """A check in plain words, and the same pattern for the JSON Schema."""

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(f"{text!r} is not {what}")
        return text

    schema: FieldInfo = Field(json_schema_extra={"pattern": f"^(?:{pattern})$"})
    return AfterValidator(check), schema


Name = Annotated[
    str,
    Field(max_length=63),
    *_form(r"[a-z0-9][a-z0-9.+-]*", "a name: use lower-case letters, digits, '.', '+' and '-'"),
]
Hostname = Annotated[
    str,
    Field(max_length=63),
    *_form(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "a host name: use lower-case letters, digits and '-'"),
]
Package = Annotated[
    str,
    *_form(
        r"[a-z0-9][a-z0-9.+-]+(:[a-z0-9]+)?(=[A-Za-z0-9.+:~-]+)?",
        "the name of a Debian package; write it like htop, or htop=3.4.1-5",
    ),
]
Module = Annotated[
    str, *_form(r"[A-Za-z0-9_*?\[\]-]+", "the name of a kernel module; write it like veth, without .ko and folder")
]
Unit = Annotated[
    str,
    *_form(rf"[A-Za-z0-9:_.@\\-]+\.({UNIT_TYPES})", "the name of a systemd unit; write it like ssh.service"),
]
ImagePath = Annotated[
    str,
    *_form(
        r"(/(?!\.{1,2}(/|$))[^/\0]+)+",
        "a path in the image; write it like /etc/motd, without '..' and without '/' at the end",
    ),
]
Mode = Annotated[str, *_form(r"[0-7]{3,4}", 'permissions; write them in octal, like "0644"')]
PublicKey = Annotated[
    str,
    *_form(
        r"(\S.* )?(ssh-(ed25519|rsa)|ecdsa-sha2-nistp\d+|sk-\S+@openssh\.com) AAAA[A-Za-z0-9+/=]+( .*)?",
        "a public key; write the line that stands in a .pub file, like: ssh-ed25519 AAAA...",
    ),
]
Network = Annotated[str, AfterValidator(_check_network)]
"""Addresses with a prefix length, as `10.42.0.0/16`."""
Size = Annotated[str, AfterValidator(_check_size)]
"""A size with a unit, as `400MiB`."""


class Part(BaseModel):
    """Base of every part of a document: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


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
    compression: Literal["zstd", "lz4hc", "lz4", "none"] = Field("lz4hc", description="Of the root file system")


class Node(Part):
    """The default of /etc/cumulet/node.yaml; what the machine is told at boot wins over it."""

    role: Literal["none", "single", "control", "master", "worker"] = "none"
    hostname: Hostname | None = Field(None, description="Default: cumulet-<first 6 digits of the machine id>")


class Qemu(Part):
    """How QEMU plays this board: data, so that a board needs no code."""

    program: str = Field(description="qemu-system-aarch64 or qemu-system-x86_64")
    machine: str
    cpu: str
    memory: Size = "3GiB"
    cpus: int = Field(2, ge=1, le=64)
    console: str = Field("ttyAMA0", description="Serial port of the console")
    disk: tuple[str, ...] = Field(
        ("virtio-blk-pci,drive=disk",), description="-device arguments for the disk; the drive's id is 'disk'"
    )
    network: tuple[str, ...] = Field(
        ("virtio-net-pci,netdev=net",), description="-device arguments for the network; the netdev's id is 'net'"
    )
    devices: tuple[str, ...] = Field(("virtio-rng-pci",), description="More -device arguments")
    firmware: tuple[str, ...] = Field((), description="Candidate UEFI firmware files, code; first found is used")
    firmware_vars: tuple[str, ...] = Field((), description="Candidate UEFI variable store templates")


class Kernel(Part):
    """The kernel package and what of it goes in."""

    package: Package = Field(description="Debian package, such as linux-image-arm64")
    device_trees: tuple[str, ...] = Field((), description="Device tree files to ship, without .dtb")
    modules: tuple[Module, ...] = Field(
        (), description="Modules to ship, as names or globs; dependencies follow by themselves"
    )
    initramfs_modules: tuple[Module, ...] = Field((), description="Modules needed to reach the root file system")
    command_line: tuple[str, ...] = Field((), description="Kernel arguments that the board needs")


class Board(Part):
    """A board as data. Adding one needs no code."""

    version: Literal[1] = 1
    board: Name
    title: str
    architecture: Architecture
    support: Literal["tested", "untested"] = Field(
        "untested", description="Whether an image for it has been seen to boot"
    )
    kernel: Kernel
    firmware: tuple[str, ...] = Field((), description="Globs below /usr/lib/firmware to ship")
    firmware_packages: tuple[Package, ...] = Field((), description="Debian packages that hold the firmware")
    packages: tuple[Package, ...] = Field((), description="Debian packages that the board needs")
    qemu: Qemu | None = None
    include: tuple[str, ...] = Field(
        (), exclude=True, description="Fragments merged in first, relative to the file that names them"
    )
    defaults: dict[str, object] = Field(
        {}, exclude=True, description="Recipe values that this board wants unless a recipe says otherwise"
    )


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
    wheels: tuple[str, ...] = Field(
        (), description="Python packages from the package index, as `name` or `name==version`"
    )
    pinned_wheels: tuple[Name, ...] = Field(
        (), description="Python packages at the version of requirements.lock, without what they name as needed"
    )
    features: tuple[Name, ...] = Field((), description="Fragments of recipes/features that were merged in")
    modules: tuple[Module, ...] = Field((), description="Kernel modules that features bring, as names or globs")
    kubernetes: Kubernetes | None = None
    sdk: bool = Field(False, description="Put the SDK (Python) into the image")
    ssh: Ssh = Ssh()
    node: Node = Node()
    files: tuple[File, ...] = ()
    mask: tuple[Unit, ...] = Field((), description="systemd units that must not run")
    enable: tuple[Unit, ...] = Field((), description="systemd units to start at boot")
    yocto: Yocto = Yocto()
    trim: Trim = Trim()
    disk: Disk = Disk()
    size_budget: SizeBudget = SizeBudget()
    formats: tuple[Literal["disk", "blockmap", "directory", "tar", "oci"], ...] = ("disk", "blockmap")
    test: tuple[Literal["base", "kubernetes", "k3s"], ...] = Field(
        ("base",), description="Boot checks that `cumulet test` runs"
    )
