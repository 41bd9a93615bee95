"""Images made known to containerd at build time: its databases are written by its own code, run here.

The layers stay in the read-only root, where containers mount them from; the data
partition gets records only, so first boot imports and unpacks nothing.
"""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

from cumulet.core.errors import ToolError
from cumulet.kubernetes.layout import IMAGES
from cumulet_builder.plan import Workshop
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree

STATE = "/state/containerd"
MARKS = "cumulet-preload"
EMULATORS = {"arm64": ("qemu-aarch64-static", "qemu-aarch64"), "amd64": ("qemu-x86_64-static", "qemu-x86_64")}
MACHINES = {"aarch64": "arm64", "x86_64": "amd64"}


def preload(root: Tree, containerd: Path, architecture: str, workshop: Workshop, toolbox: Toolbox) -> Tree:
    """What /state/containerd of the data partition holds, for the images that `root` lists."""
    with workshop.cache.scratch("preload") as scratch:
        plan = scratch / "plan"
        for path, node in root.walk():
            if node.kind == "file" and path.startswith(f"{IMAGES}/"):
                target = plan / path.removeprefix(f"{IMAGES}/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(root.read(path))
        # The program looks at the name it is called by.
        program = scratch / "cumulet-preload"
        program.symlink_to(containerd)
        made = scratch / "containerd"
        argv: list[str | Path] = [*find_emulator(architecture, toolbox), program, "--reproducible", plan, made]
        toolbox.run(argv, folders=[scratch, containerd.parent], log=workshop.log)
        return read_folder(made, STATE)


def make_mark(plan: bytes) -> str:
    """The folder below /var/lib/containerd that says that these images have been made known."""
    return f"{MARKS}/{hashlib.sha256(plan).hexdigest()[:16]}"


def find_emulator(architecture: str, toolbox: Toolbox) -> list[str]:
    """The words before a program of `architecture`: none if this computer runs it. Raises ToolError."""
    if MACHINES.get(platform.machine()) == architecture:
        return []
    for name in EMULATORS[architecture]:
        if (toolbox.root / "usr/bin" / name).exists():
            return [name]
    raise ToolError(
        f"{EMULATORS[architecture][-1]}: not among the build's tools", hint="add the Debian package qemu-user to them"
    )


def read_folder(folder: Path, prefix: str) -> Tree:
    """A folder as a tree below `prefix`, contents in memory, everything root's."""
    tree = Tree()
    for path in sorted(folder.rglob("*")):
        name = f"{prefix}/{path.relative_to(folder)}"
        if path.is_symlink():
            tree.link(name, str(path.readlink()))
        elif path.is_dir():
            tree.folder(name, path.stat().st_mode & 0o777)
        else:
            tree.file(name, path.read_bytes(), path.stat().st_mode & 0o777)
    tree.folder(prefix, 0o711)
    return tree
