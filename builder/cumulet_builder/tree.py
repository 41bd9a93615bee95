"""A file system tree as a value: what the stages hand to each other.

A tree maps absolute paths to nodes. Contents are bytes or a slice of a file, so
that merging and filtering trees copies nothing. Owners are numbers in the tree,
never owners on this computer's disk: no stage after the configuring one needs
root. On disk a tree is a tar archive with sorted names and one time stamp.
"""

from __future__ import annotations

import os
import posixpath
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Literal

Kind = Literal["file", "folder", "link", "hardlink", "device"]
BLOCK = 512


@dataclass(frozen=True, slots=True)
class Slice:
    """`size` bytes of `path` from `offset` on."""

    path: Path
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Node:
    """One entry of a tree. `target` is for links; a hardlink's target is an absolute path of the tree."""

    kind: Kind
    mode: int
    content: bytes | Slice = b""
    target: str = ""
    uid: int = 0
    gid: int = 0
    device: tuple[str, int, int] = ("c", 0, 0)
    xattrs: tuple[tuple[str, str], ...] = ()

    @property
    def size(self) -> int:
        """Bytes of content."""
        return len(self.content) if isinstance(self.content, bytes) else self.content.size


@dataclass
class Tree:
    """Absolute path -> node. Parent folders that nobody named are added when it is written."""

    nodes: dict[str, Node] = field(default_factory=dict)

    def file(self, path: str, content: bytes | str | Path, mode: int = 0o644, uid: int = 0, gid: int = 0) -> None:
        """Add a regular file from bytes, text, or a file of this computer (not copied)."""
        if isinstance(content, Path):
            source: bytes | Slice = Slice(content, 0, content.stat().st_size)
        else:
            source = content.encode() if isinstance(content, str) else content
        self.nodes[path] = Node("file", mode, source, uid=uid, gid=gid)

    def folder(self, path: str, mode: int = 0o755, uid: int = 0, gid: int = 0) -> None:
        """Add a folder."""
        self.nodes[path] = Node("folder", mode, uid=uid, gid=gid)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.nodes[path] = Node("link", 0o777, target=target)

    def walk(self) -> Iterator[tuple[str, Node]]:
        """All entries, parents first, in the order of their names."""
        return iter(sorted(self.nodes.items(), key=lambda item: item[0].split("/")))

    def read(self, path: str) -> bytes:
        """A file's content; symbolic links are not followed."""
        content = self.nodes[path].content
        if isinstance(content, bytes):
            return content
        with content.path.open("rb") as stream:
            stream.seek(content.offset)
            return stream.read(content.size)


def merge(trees: Iterable[Tree]) -> Tree:
    """One tree of many; a later one wins, and its folders do not change the mode of earlier ones.

    A path below a symbolic link to a folder (`/bin/x` where `/bin` -> `usr/bin`)
    lands where the link points, as it would on a real file system.
    """
    merged: dict[str, Node] = {}
    links: dict[str, str] = {}
    twins: dict[str, list[str]] = {}
    for tree in trees:
        own: set[str] = set()
        for path, node in tree.walk():
            real = follow(path, links.get)
            old = merged.get(real)
            if node.kind == "folder" and old is not None and old.kind in ("folder", "link"):
                continue
            if old is not None:
                _keep_twins(merged, real, [twin for twin in twins.get(real, ()) if twin not in own])
            own.add(real)
            merged[real] = node
            links.pop(real, None)
            if node.kind == "link":
                links[real] = node.target
            if node.kind == "hardlink":
                merged[real] = replace(node, target=follow(node.target, links.get))
                twins.setdefault(merged[real].target, []).append(real)
    return Tree(merged)


def follow(path: str, link_at: Callable[[str], str | None]) -> str:
    """The path with symbolic links among its parents followed; `link_at` gives the target of a link, else None."""
    for _ in range(16):
        for end in (i for i, letter in enumerate(path) if letter == "/" and i > 0):
            target = link_at(path[:end])
            if target is not None:
                here = posixpath.join(posixpath.dirname(path[:end]), target) + path[end:]
                path = posixpath.normpath("/" + here.lstrip("/"))
                break
        else:
            return path
    return path


def filter_tree(tree: Tree, want: Callable[[str, Node], bool]) -> Tree:
    """The tree without what `want(path, node)` refuses, and without what is below a refused folder.

    A hard link whose target is dropped becomes the file itself.
    """
    kept: dict[str, Node] = {}
    dropped = ""
    for path, node in tree.walk():
        if dropped and path.startswith(dropped):
            continue
        if want(path, node):
            kept[path] = node
        elif node.kind == "folder":
            dropped = path + "/"
    for path, node in list(kept.items()):
        if node.kind == "hardlink" and node.target not in kept:
            kept[path] = replace(tree.nodes[node.target])
    return Tree(kept)


def read_tar(path: Path) -> Tree:
    """The tree in an uncompressed tar archive. Contents stay in the archive."""
    nodes: dict[str, Node] = {}
    with tarfile.open(path, "r:", errorlevel=2) as archive:
        for member in archive:
            name = "/" + member.name.removeprefix("./").strip("/")
            if name in ("/", "/."):
                continue
            nodes[name] = _node_of(member, path)
    return Tree(nodes)


def write_tar(tree: Tree, stream: IO[bytes], epoch: int) -> None:
    """Write a tree as a tar archive: names sorted, every time stamp `epoch`, owners by number."""
    whole = _links_behind_targets(_with_parents(tree))
    # Without an entry for the top folder mkfs.erofs makes it writable for everybody.
    stream.write(_header("/.", Node("folder", 0o755), epoch))
    for path, node in whole.walk():
        stream.write(_header(path, node, epoch))
        if node.kind == "file":
            _copy(node.content, stream)
            stream.write(b"\0" * (-node.size % BLOCK))
    stream.write(b"\0" * (2 * BLOCK))


def _keep_twins(merged: dict[str, Node], path: str, twins: Iterable[str]) -> None:
    """Before `path` is replaced: what an earlier tree linked to it keeps the old content."""
    for twin in twins:
        if merged[twin].kind == "hardlink" and merged[twin].target == path:
            merged[twin] = merged[path]


def _links_behind_targets(tree: Tree) -> Tree:
    """The same tree, where no hard link sorts before its target: readers of archives make it at once."""
    nodes = dict(tree.nodes)
    moved: dict[str, str] = {}
    for path, node in tree.walk():
        if node.kind != "hardlink" or node.target not in nodes:
            continue
        if node.target in moved:
            nodes[path] = replace(node, target=moved[node.target])
        elif path.split("/") < node.target.split("/"):
            nodes[path], nodes[node.target] = nodes[node.target], replace(node, target=path)
            moved[node.target] = path
    return Tree(nodes)


def _with_parents(tree: Tree) -> Tree:
    nodes = dict(tree.nodes)
    for path in tree.nodes:
        parent = posixpath.dirname(path)
        while parent != "/" and parent not in nodes:
            nodes[parent] = Node("folder", 0o755)
            parent = posixpath.dirname(parent)
    return Tree(nodes)


_TYPES: dict[Kind, bytes] = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
}


def _header(path: str, node: Node, epoch: int) -> bytes:
    info = tarfile.TarInfo(path[1:])
    info.type = _TYPES.get(node.kind, tarfile.CHRTYPE if node.device[0] == "c" else tarfile.BLKTYPE)
    info.mode, info.uid, info.gid, info.mtime = node.mode, node.uid, node.gid, epoch
    info.size = node.size if node.kind == "file" else 0
    info.linkname = node.target[1:] if node.kind == "hardlink" else node.target
    info.devmajor, info.devminor = node.device[1], node.device[2]
    info.pax_headers = {f"SCHILY.xattr.{name}": value for name, value in node.xattrs}
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _node_of(member: tarfile.TarInfo, path: Path) -> Node:
    marks = tuple(
        (key.removeprefix("SCHILY.xattr."), value)
        for key, value in sorted(member.pax_headers.items())
        if key.startswith("SCHILY.xattr.")
    )
    uid, gid = member.uid, member.gid
    mode = member.mode & 0o7777
    if member.isdir():
        return Node("folder", mode, xattrs=marks, uid=uid, gid=gid)
    if member.issym():
        return Node("link", 0o777, target=member.linkname, uid=uid, gid=gid)
    if member.islnk():
        return Node("hardlink", mode, target="/" + member.linkname.removeprefix("./").lstrip("/"), uid=uid, gid=gid)
    if member.ischr() or member.isblk():
        kind = "c" if member.ischr() else "b"
        return Node("device", mode, device=(kind, member.devmajor, member.devminor), uid=uid, gid=gid)
    return Node("file", mode, Slice(path, member.offset_data, member.size), xattrs=marks, uid=uid, gid=gid)


def _copy(content: bytes | Slice, stream: IO[bytes]) -> None:
    if isinstance(content, bytes):
        stream.write(content)
        return
    with content.path.open("rb") as source:
        source.seek(content.offset)
        left = content.size
        while left:
            chunk = source.read(min(left, 1 << 20))
            if not chunk:
                raise OSError(0, "is shorter than its index says", str(content.path))
            stream.write(chunk)
            left -= len(chunk)


def read_folder(root: Path) -> Tree:
    """The tree in a folder of this computer, with owners as they are there; contents are not copied."""
    nodes: dict[str, Node] = {}
    seen: dict[tuple[int, int], str] = {}
    for folder, folders, files in os.walk(root):
        folders.sort()
        for name in sorted([*folders, *files]):
            path = Path(folder, name)
            inside = "/" + str(path.relative_to(root))
            status = path.lstat()
            if stat.S_ISSOCK(status.st_mode) or stat.S_ISFIFO(status.st_mode):
                continue  # left by a program that ran; no package has one
            first = seen.setdefault((status.st_dev, status.st_ino), inside)
            nodes[inside] = _node_on_disk(path, status, first if first != inside else "")
    return Tree(nodes)


def _node_on_disk(path: Path, status: os.stat_result, first: str) -> Node:
    mode = stat.S_IMODE(status.st_mode)
    uid, gid = status.st_uid, status.st_gid
    if stat.S_ISLNK(status.st_mode):
        return Node("link", 0o777, target=str(path.readlink()), uid=uid, gid=gid)
    if stat.S_ISDIR(status.st_mode):
        return Node("folder", mode, uid=uid, gid=gid)
    if first:
        return Node("hardlink", mode, target=first, uid=uid, gid=gid)
    if stat.S_ISREG(status.st_mode):
        return Node("file", mode, Slice(path, 0, status.st_size), uid=uid, gid=gid, xattrs=_capability(path))
    kind = "c" if stat.S_ISCHR(status.st_mode) else "b"
    return Node("device", mode, device=(kind, os.major(status.st_rdev), os.minor(status.st_rdev)), uid=uid, gid=gid)


def _capability(path: Path) -> tuple[tuple[str, str], ...]:
    # The one attribute that packages set; everything else belongs to this computer.
    try:
        value = os.getxattr(path, "security.capability")
    except OSError:
        return ()
    return (("security.capability", value.decode("utf-8", "surrogateescape")),)
