"""The SDK in the image: our own package, and the wheels that it imports."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import cumulet
from cumulet.core.files import sha256_text
from cumulet_builder.engines.debian.lock import Lock
from cumulet_builder.engines.debian.wheels import SITE, make_wheel_tree
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.toolbox import Toolbox
from cumulet_builder.tree import Tree, merge, write_tar

CODE = "2"
COMMAND = """#!/usr/bin/python3 -I
import sys
from cumulet.cli import main
sys.exit(main())
"""


def make_sdk_stage(lock: Lock, with_sdk: bool) -> Stage:
    """`sdk.tar`: the lock's wheels, and with `with_sdk` the SDK of this very Cumulet."""
    own = merge([load_sdk(), make_command_tree()]) if with_sdk else Tree()
    digest = sha256_text("".join(f"{path} {sha256_text(own.read(path).decode())}" for path in own.nodes))
    wheels = "\n".join(f"{wheel.file} {wheel.sha256}" for wheel in lock.wheels)

    def make(workshop: Workshop) -> None:
        tree = merge([make_wheel_tree(lock.wheels, workshop.cache), own])
        if tree.nodes:
            tree = _compile(tree, workshop)
        with (workshop.folder / "sdk.tar").open("wb") as stream:
            write_tar(tree, stream, workshop.epoch)

    files = tuple(wheel.sha256 for wheel in lock.wheels)
    return Stage("sdk", {"code": CODE, "sdk": digest, "wheels": wheels}, make, ("tools",), files)


def _compile(tree: Tree, workshop: Workshop) -> Tree:
    """The tree with compiled modules beside the sources: the root is read-only and its CPU slow."""
    with workshop.cache.scratch("sdk") as folder:
        for path, node in tree.walk():
            if path.endswith(".py") and node.kind == "file":
                target = folder / path.removeprefix("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(tree.read(path))
        words: list[str | Path] = ["python3", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
        Toolbox(workshop.needs["tools"] / "tree").run(
            # Wheels may carry files that are templates, or for another version: those stay sources.
            [*words, "-s", folder, "-p", "/", folder],
            folders=[folder],
            log=workshop.log,
            check=False,
        )
        compiled = Tree({path: tree.nodes[path] for path in tree.nodes})
        for found in folder.rglob("*.pyc"):
            compiled.file("/" + str(found.relative_to(folder)), found.read_bytes())
    return compiled


def load_sdk() -> Tree:
    """The SDK's source files as they lie in the image."""
    folder = Path(cumulet.__file__).parent
    tree = Tree()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in (".py", ".j2", ".sh", ".yaml", ".typed"):
            tree.file(f"{SITE}/cumulet/{path.relative_to(folder)}", path.read_bytes())
    version = metadata.version("cumulet-board")
    about = f"Metadata-Version: 2.4\nName: cumulet-board\nVersion: {version}\n"
    tree.file(f"{SITE}/cumulet_board-{version}.dist-info/METADATA", about)
    return tree


def make_command_tree() -> Tree:
    """The command `cumulet` of a device: what the SDK offers."""
    tree = Tree()
    tree.file("/usr/bin/cumulet", COMMAND, 0o755)
    return tree
