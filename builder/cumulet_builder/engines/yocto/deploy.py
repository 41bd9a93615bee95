"""From bitbake's folder of finished files to what Cumulet publishes: names, checks, the description of the packages."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from cumulet.core.errors import TargetError
from cumulet_builder.engines.yocto.machines import Machine
from cumulet_builder.formats.check import Span, problems_of_data, problems_of_root, problems_of_table
from cumulet_builder.formats.disk import copy_ranges
from cumulet_builder.formats.layout import Layout
from cumulet_builder.report.collect import probe_stored

SECTORS = (512, 4096)
SIGNATURE = b"EFI PART"
BOOT = "boot.img"
HINT = "this is a fault of the build: report it with the build log"


class FactsPackage(BaseModel):
    """A package in the image, as the image's class wrote it down."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    version: str
    architecture: str
    recipe: str
    recipe_version: str
    layer: str = ""
    licence: str
    files: tuple[str, ...]


class FactsKernel(BaseModel):
    """The kernel in the image; `release` is what `uname -r` will say."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    recipe: str
    release: str


class ImageFacts(BaseModel):
    """IMAGE.facts.json."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    version: Literal[1]
    packages: tuple[FactsPackage, ...]
    kernel: FactsKernel


@dataclass(frozen=True)
class Deployed:
    """Which files of bitbake's folder are what. `optional` ones may be missing."""

    needed: Mapping[str, str]
    optional: Mapping[str, str]


def make_names(image: str, machine: Machine, kernel: str) -> Deployed:
    """Our name -> bitbake's, for an image on a machine; `kernel` is the name of the kernel's file. Pure."""
    stem = f"{image}-{machine.name}"
    needed = {
        "disk.img": f"{stem}.wic",
        "root.erofs": f"{stem}.erofs-root",
        "root.tar": f"{stem}.tar",
        "facts.json": f"{stem}.facts.json",
        "vmlinuz": kernel,
        "initrd.img": f"cumulet-initramfs-{machine.name}.cpio.zst",
        "config": "kernel.config",
        "builtin": "kernel.builtin",
    }
    phone = {"disk.simg": f"{stem}.wic.simg"} if machine.boot == "phone" else {}
    return Deployed({**needed, **phone}, {"sbom.spdx.json": f"{stem}.spdx.json"})


def collect(deploy: Path, names: Deployed, target: Path) -> None:
    """Copy what bitbake left into `target`, holes as holes. Raises TargetError with everything that is missing."""
    missing = [theirs for theirs in names.needed.values() if not (deploy / theirs).exists()]
    if missing:
        raise TargetError(f"{deploy}: bitbake ended well and left no {', '.join(missing)}", hint=HINT)
    found = {ours: deploy / theirs for ours, theirs in {**names.needed, **names.optional}.items()}
    boots = sorted(deploy.glob("boot-*.img"))
    # A board with one device tree has one boot image, and one name for it.
    found |= {BOOT if len(boots) == 1 else each.name: each for each in boots}
    for ours, source in found.items():
        if source.exists():
            copy_sparse(source.resolve(), target / ours)


def copy_sparse(source: Path, target: Path) -> None:
    """Copy a file without filling its holes."""
    with target.open("wb") as out:
        out.truncate(source.stat().st_size)
        copy_ranges(source, out.fileno(), 0, probe_stored(source))


def load_facts(path: Path) -> ImageFacts:
    """Read what the image's class wrote. Raises TargetError if it is something else."""
    try:
        return ImageFacts.model_validate_json(path.read_text())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise TargetError(f"{path.name}: {where}: {first['msg']}", hint=HINT) from error


def check_disk(image: Path, layout: Layout, machine: Machine) -> None:
    """Raise TargetError with everything that would keep the disk from booting, or from being updated."""
    table = read_table(image)
    names = [each.name for each in layout.partitions if each.name != "esp" or machine.boot != "phone"]
    problems = [f"no partition {name}" for name in names if name not in table]
    if not problems:
        if machine.boot == "efi":
            problems += problems_of_table(table, image.stat().st_size)
            problems += _misplaced(table, layout)
        problems += problems_of_root(image, table["root-a"])
        problems += problems_of_data(image, table["data"])
    if problems:
        raise TargetError("; ".join(f"{image.name}: {each}" for each in problems), hint=HINT)


def _misplaced(table: Mapping[str, Span], layout: Layout) -> Iterable[str]:
    """The sizes are the recipe's, the places the Debian engine's: an update knows only one layout."""
    for part in layout.partitions:
        span = table[part.name]
        if (span.start, span.size) != (part.start, part.size):
            yield f"partition {part.name} is {span.size} bytes from {span.start}, not {part.size} from {part.start}"


def read_table(image: Path) -> dict[str, Span]:
    """Partition name -> where it is, from the disk's own table (GPT, sectors of 512 or 4096 bytes)."""
    with image.open("rb") as stream:
        for sector in SECTORS:
            stream.seek(sector)
            header = stream.read(92)
            if header[:8] == SIGNATURE:
                first, count, size = struct.unpack_from("<QII", header, 72)
                stream.seek(first * sector)
                return _read_entries(stream.read(count * size), size, sector)
    return {}


def _read_entries(data: bytes, size: int, sector: int) -> dict[str, Span]:
    table = {}
    for offset in range(0, len(data) - size + 1, size):
        kind, start, end = data[offset : offset + 16], *struct.unpack_from("<QQ", data, offset + 32)
        if kind.strip(b"\0"):
            name = data[offset + 56 : offset + size].decode("utf-16-le", errors="replace").rstrip("\0")
            table[name] = Span(start * sector, (end - start + 1) * sector, str(uuid.UUID(bytes_le=kind)).upper())
    return table


def make_deploy_folder(build: Path, machine: Machine) -> Path:
    """Where bitbake leaves what it made for a machine."""
    return build / "tmp/deploy/images" / machine.name
