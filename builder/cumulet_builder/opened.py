"""Packages that are opened, not installed: their files as a tree, or one of them."""

from __future__ import annotations

from pathlib import Path

from cumulet.core.errors import UsageError
from cumulet_builder.tree import Node, Tree


def load_package_tree(deb: Path) -> Tree:
    """Every file and link of a package file. Contents are held in memory."""
    from debian.debfile import DebFile  # noqa: PLC0415  (slow to import)

    tree = Tree()
    with DebFile(str(deb)) as archive:
        data = archive.data.tgz()
        for member in data:
            path = "/" + str(member.name).removeprefix("./").strip("/")
            if member.issym():
                tree.link(path, str(member.linkname))
            elif member.isfile():
                source = data.extractfile(member)
                tree.nodes[path] = Node("file", member.mode & 0o7777, source.read() if source else b"")
    return tree


def load_package_file(deb: Path, path: str, package: str) -> bytes:
    """One file of a package file. Raises UsageError naming `package` if it has no such file."""
    tree = load_package_tree(deb)
    if path not in tree.nodes or tree.nodes[path].kind != "file":
        raise UsageError(f"{package}: no {path} in it", hint="correct the board's boot.loader.path")
    return tree.read(path)
