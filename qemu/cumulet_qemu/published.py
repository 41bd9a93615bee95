"""The published image folder as QEMU needs it: which files there are and what the board says.

The folder is what a build left: `disk.img`, `vmlinuz`, `initrd.img`,
`cmdline.txt`, `board.json` (the resolved board) and `image.json` (the image's
name, its boot checks, its Kubernetes).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from cumulet.core.errors import UsageError

Architecture = Literal["arm64", "amd64"]
UNITS = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "kB": 10**3, "MB": 10**6, "GB": 10**9}
FILES = ("disk.img", "vmlinuz", "initrd.img", "cmdline.txt")


@dataclass(frozen=True, slots=True)
class QemuBoard:
    """How QEMU plays the board; sizes in bytes, the rest are words of QEMU's command line."""

    program: str
    machine: str
    cpu: str
    memory: int
    cpus: int
    console: str
    disk: tuple[str, ...]
    network: tuple[str, ...]
    devices: tuple[str, ...]
    ports: Mapping[str, str]
    firmware: tuple[str, ...]
    firmware_vars: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Cluster:
    """The Kubernetes of an image; `version` is empty where the recipe leaves it to the distribution's pin."""

    distribution: str
    version: str
    addons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModemFacts:
    """What an image wants of its modem; `pin` is the variable or file that holds the SIM's PIN, empty without one."""

    apn: str
    pin: str
    roaming: bool


@dataclass(frozen=True, slots=True)
class GnssFacts:
    """The satellite systems that an image asks for, and the seconds after which it says which it does not see."""

    constellations: tuple[str, ...]
    wait: int


@dataclass(frozen=True, slots=True)
class Published:
    """One published image folder. `test` names the boot checks; `ssh`, `firewall`: whether it has one."""

    folder: Path
    image: str
    board: str
    architecture: Architecture
    qemu: QemuBoard
    command_line: str
    test: tuple[str, ...]
    ssh: bool = True
    firewall: bool = False
    kubernetes: Cluster | None = None
    modem: ModemFacts | None = None
    gnss: GnssFacts | None = None

    @property
    def simulated(self) -> tuple[str, ...]:
        """The ports that a device is simulated behind: those of the board that the image makes use of."""
        used = {"modem": self.modem is not None, "gnss": self.gnss is not None}
        return tuple(name for name, wanted in used.items() if wanted and name in self.qemu.ports)

    def file(self, name: str) -> Path:
        """The path of one of the image's files."""
        return self.folder / name


def find_image(name: str, out: Path) -> Path:
    """The folder meant by `name`: a folder, or an image or recipe whose result is below `out`.

    Raises UsageError if there is none.
    """
    path = Path(name)
    if path.is_dir():
        return path.resolve()
    image = path.name.removesuffix(".yaml") if path.suffix == ".yaml" else name
    if (out / image / "board.json").is_file():
        return (out / image).resolve()
    raise UsageError(f"{name}: no such image folder, and no image of this name in {out}", hint=f"cumulet build {name}")


def load_published(folder: Path) -> Published:
    """Read a published folder. Raises UsageError if it is not one, or one that QEMU cannot play."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such image folder", hint="cumulet build RECIPE")
    missing = [name for name in ("board.json", "image.json", *FILES) if not (folder / name).is_file()]
    if missing:
        raise UsageError(f"{folder}: not a published image: no {', '.join(missing)}", hint="cumulet build RECIPE")
    board, image = _load_object(folder / "board.json"), _load_object(folder / "image.json")
    command_line = (folder / "cmdline.txt").read_text().strip()
    return make_published(folder.resolve(), board, image, command_line)


def make_published(
    folder: Path, board: Mapping[str, object], image: Mapping[str, object], command_line: str
) -> Published:
    """The facts from the two parsed documents. Raises UsageError naming the key that is wrong."""
    place = f"{folder / 'board.json'}"
    if board.get("qemu") is None:
        raise UsageError(
            f"{place}: board '{board.get('board')}' has no 'qemu' section, so QEMU cannot play it",
            hint="flash the image, or build the recipe for a QEMU board",
        )
    architecture = _text(board, "architecture", place)
    if architecture not in ("arm64", "amd64"):
        raise UsageError(f"{place}: architecture: {architecture!r} is neither arm64 nor amd64")
    kubernetes, modem, gnss = image.get("kubernetes"), image.get("modem"), image.get("gnss")
    image_place = f"{folder / 'image.json'}"
    return Published(
        folder=folder,
        image=_text(image, "image", image_place),
        board=_text(board, "board", place),
        architecture=cast(Architecture, architecture),
        qemu=_make_board(_object(board["qemu"], "qemu", place), f"{place}: qemu"),
        command_line=command_line,
        test=_words(image, "test", image_place),
        ssh=bool(image.get("ssh", True)),
        firewall=bool(image.get("firewall", False)),
        kubernetes=_make_cluster(kubernetes, image_place) if kubernetes is not None else None,
        modem=_make_modem(_object(modem, "modem", image_place)) if modem is not None else None,
        gnss=_make_gnss(_object(gnss, "gnss", image_place), image_place) if gnss is not None else None,
    )


def parse_size(value: object, place: str) -> int:
    """Bytes of `3GiB`, `512MiB` or a plain number. Raises UsageError on anything else."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"(\d+)\s*([A-Za-z]*)", value) if isinstance(value, str) else None
    if match is None or (match[2] and match[2] not in UNITS):
        raise UsageError(f"{place}: not a size: {value!r}", hint="write it like 3GiB")
    return int(match[1]) * UNITS.get(match[2], 1)


def _make_board(qemu: Mapping[str, object], place: str) -> QemuBoard:
    return QemuBoard(
        program=_text(qemu, "program", place),
        machine=_text(qemu, "machine", place),
        cpu=_text(qemu, "cpu", place),
        memory=parse_size(qemu.get("memory", "3GiB"), f"{place}.memory"),
        cpus=parse_size(qemu.get("cpus", 2), f"{place}.cpus"),
        console=_text(qemu, "console", place),
        disk=_words(qemu, "disk", place),
        network=_words(qemu, "network", place),
        devices=_words(qemu, "devices", place),
        ports={name: str(words) for name, words in _object(qemu.get("ports", {}), "ports", place).items()},
        firmware=_words(qemu, "firmware", place),
        firmware_vars=_words(qemu, "firmware_vars", place),
    )


def _make_cluster(value: object, place: str) -> Cluster:
    part = _object(value, "kubernetes", place)
    place = f"{place}: kubernetes"
    version = _text(part, "version", place) if part.get("version") is not None else ""
    return Cluster(_text(part, "distribution", place), version, _words(part, "addons", place))


def _make_modem(part: Mapping[str, object]) -> ModemFacts:
    pin = part.get("pin")
    place = ""
    if isinstance(pin, dict):
        # The names that a recipe may leave out, as the image's own scripts have them.
        default = {"env": "CUMULET_MODEM_PIN", "file": "/etc/cumulet/modem.pin"}[str(pin.get("from"))]
        place = str(pin.get("name") or pin.get("path") or default)
    return ModemFacts(str(part.get("apn") or ""), place, bool(part.get("roaming")))


def _make_gnss(part: Mapping[str, object], place: str) -> GnssFacts:
    return GnssFacts(_words(part, "constellations", f"{place}: gnss"), parse_size(part.get("wait"), f"{place}: gnss"))


def _load_object(path: Path) -> Mapping[str, object]:
    try:
        value = json.loads(path.read_text())
    except ValueError as error:
        raise UsageError(f"{path}: not JSON: {error}", hint="cumulet build RECIPE") from error
    return _object(value, "document", str(path))


def _object(value: object, key: str, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise UsageError(f"{place}: {key}: not an object: {value!r}")
    return value


def _text(part: Mapping[str, object], key: str, place: str) -> str:
    value = part.get(key)
    if not isinstance(value, str) or not value:
        raise UsageError(f"{place}: {key}: not a text: {value!r}")
    return value


def _words(part: Mapping[str, object], key: str, place: str) -> tuple[str, ...]:
    value = part.get(key, [])
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        raise UsageError(f"{place}: {key}: not a list of texts: {value!r}")
    return tuple(value)
