"""Programs with their libraries, taken out of a tree: tried on programs of this computer."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cumulet.core.errors import ToolError
from cumulet_builder.elf import needed, with_libraries
from cumulet_builder.tree import Tree


def tree_of_this_computer(program: Path) -> Tree:
    """A root as Debian's: the program and what the dynamic loader says it loads, with every link on the way."""
    tree = Tree()
    lines = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout.splitlines()
    paths = [Path(word) for line in lines for word in line.split() if word.startswith("/")]
    for path in [program, *paths]:
        real = path.resolve()
        tree.file(f"/usr{real}" if not str(real).startswith("/usr/") else str(real), real)
        inside = path.parent.resolve() / path.name
        if inside != real:
            tree.link(str(inside), str(real))
    tree.link("/lib64", "usr/lib64")
    for top in ("lib", "lib64"):
        if Path("/", top).is_symlink():
            tree.link(f"/{top}", f"usr/{top}")
    return tree


@pytest.mark.skipif(shutil.which("ldd") is None, reason="no ldd on this computer")
def test_a_program_comes_with_its_loader_its_libraries_and_their_folders() -> None:
    program = Path(shutil.which("ls") or "").resolve()
    whole = tree_of_this_computer(program)
    whole.file("/usr/bin/other", b"not asked for")
    found = with_libraries(whole, [str(program)])
    assert str(program) in found.nodes
    names = {path.rpartition("/")[2] for path, node in found.nodes.items() if node.kind != "folder"}
    assert any(name.startswith("libc.so") for name in names)
    assert any(name.startswith("ld-linux") for name in names)
    assert "/usr/bin/other" not in found.nodes
    for path, node in found.nodes.items():
        parent = path.rpartition("/")[0]
        assert not parent or found.nodes[parent].kind == "folder", (path, node)


def test_a_script_needs_nothing() -> None:
    assert needed(b"#!/bin/sh\n") == []


def test_what_is_not_in_the_image_is_named() -> None:
    with pytest.raises(ToolError) as caught:
        with_libraries(Tree(), ["/usr/sbin/losetup"])
    assert caught.value.message == "/usr/sbin/losetup: needs /usr/sbin/losetup, which is not in the image"
