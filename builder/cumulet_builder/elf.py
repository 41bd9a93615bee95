"""Programs with the libraries that they are linked with, taken out of a tree: what a small system needs to run them."""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterable

from cumulet.core.errors import ToolError
from cumulet_builder.tree import Tree, follow


def with_libraries(whole: Tree, programs: Iterable[str]) -> Tree:
    """These programs of a tree, each library that they need, the links on the way to it, and their folders.

    Raises ToolError naming what a program needs and the tree has not got.
    """
    links = {path: node.target for path, node in whole.nodes.items() if node.kind == "link"}
    places = _libraries(whole)
    found = Tree()
    todo = [(path, path) for path in programs]
    while todo:
        path, asker = todo.pop()
        for step in _steps(path, links):
            if step in found.nodes:
                continue
            if step not in whole.nodes:
                raise ToolError(
                    f"{asker}: needs {path}, which is not in the image", hint="add its package to the board"
                )
            found.nodes[step] = whole.nodes[step]
            if whole.nodes[step].kind == "file":
                todo += [(places.get(name, name), asker) for name in needed(whole.read(step))]
    # The kernel makes no folder by itself when it unpacks an initramfs.
    for path in list(found.nodes):
        for end in (end for end, letter in enumerate(path) if letter == "/" and end):
            found.folder(path[:end])
    return found


def needed(program: bytes) -> list[str]:
    """What a program is linked with: the path of its loader, the names of its libraries. Empty for a script."""
    from elftools.elf.dynamic import DynamicSection  # noqa: PLC0415  (slow to import)
    from elftools.elf.elffile import ELFFile  # noqa: PLC0415
    from elftools.elf.segments import InterpSegment  # noqa: PLC0415

    if not program.startswith(b"\x7fELF"):
        return []
    elf = ELFFile(io.BytesIO(program))
    names = [each.get_interp_name() for each in elf.iter_segments() if isinstance(each, InterpSegment)]
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            # The reader gives each kind of tag a name for its value, which its type hints do not know.
            names += [getattr(tag, "needed") for tag in section.iter_tags("DT_NEEDED")]  # noqa: B009
    return names


def _libraries(whole: Tree) -> dict[str, str]:
    """Name -> path of every library where the loader looks."""
    paths = [path for path in whole.nodes if path.startswith("/usr/lib/") and ".so" in path]
    near = sorted((path for path in paths if path.count("/") <= 4), key=lambda path: (path.count("/"), path))
    return {posixpath.basename(path): path for path in reversed(near)}


def _steps(path: str, links: dict[str, str]) -> list[str]:
    """The path as it really is, and those of the links that its last part leads over."""
    steps = []
    for _ in range(16):
        path = follow(path, links.get)
        steps.append(path)
        if path not in links:
            return steps
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path]))
    return steps
