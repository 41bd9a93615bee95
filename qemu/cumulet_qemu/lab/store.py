"""Where labs are kept: a folder each, with the document that says what the lab is."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cumulet.core import proc
from cumulet.core.errors import ToolError, UsageError
from cumulet.core.files import write_text
from cumulet_qemu.lab.root import unpack_root
from cumulet_qemu.lab.wiring import make_wiring

NAME = "lab"
SUBNET = "10.51.0.0/24"
PROGRAMS: Mapping[str, str] = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "ssh-keygen": "openssh-client",
    "zstd": "zstd",
}


@dataclass(frozen=True, slots=True)
class Document:
    """What a lab is: its name, its /24, the unpacked root of its nodes, and how many nodes it has."""

    name: str
    subnet: str
    root: Path
    nodes: int = 0


def find_labs() -> Path:
    """The folder that all labs are in; roots are shared between them."""
    base = os.environ.get("XDG_STATE_HOME")
    return (Path(base) if base else Path.home() / ".local/state") / "cumulet/lab"


def make_lab(name: str, subnet: str, image: Path, labs: Path) -> Path:
    """The folder of a lab of this name; a new one gets the root of `image`, an old one keeps its own.

    Raises UsageError for a bad name, subnet or image, ToolError where this computer cannot have labs.
    """
    wiring = make_wiring(name, subnet)
    check_computer()
    folder = labs / name
    if not (folder / "lab.json").is_file():
        root = unpack_root(image, labs / "roots")
        save_document(folder, Document(wiring.name, wiring.subnet, root))
    return folder


def find_lab(name: str, labs: Path) -> Path:
    """The folder of a lab that there is. Raises UsageError, or ToolError without the rights."""
    check_computer()
    folder = labs / name
    load_document(folder)
    return folder


def check_computer() -> None:
    """Raise ToolError if this computer or this user cannot have a lab."""
    if os.geteuid() != 0:
        raise ToolError("a lab makes network links and control groups, which needs root", hint="sudo cumulet lab ...")
    for program, package in PROGRAMS.items():
        if proc.find(program) is None:
            raise ToolError(f"{program}: no such program on this computer", hint=f"apt-get install {package}")


def save_document(folder: Path, document: Document) -> None:
    """Write the lab's document."""
    values = {
        "version": 1,
        "name": document.name,
        "subnet": document.subnet,
        "root": str(document.root),
        "nodes": document.nodes,
    }
    write_text(folder / "lab.json", json.dumps(values, indent=1) + "\n")


def load_document(folder: Path) -> Document:
    """The lab's document. Raises UsageError if there is no such lab."""
    try:
        values = json.loads((folder / "lab.json").read_text())
        return Document(values["name"], values["subnet"], Path(values["root"]), values["nodes"])
    except FileNotFoundError:
        raise UsageError(f"{folder.name}: no such lab", hint="cumulet lab up") from None
    except (ValueError, KeyError) as error:
        raise UsageError(f"{folder}/lab.json: damaged", hint=f"cumulet lab down --name {folder.name}") from error
