"""Trees as archives: everything survives, and the same tree is the same bytes."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from cumulet_builder.tree import Node, Slice, Tree, read_folder, read_tar, write_tar

EPOCH = 1_700_000_000
CAPABILITY = b"\x01\0\0\2\0 \0\0\xff\0\0\0\0\0\0\0\0\0\0\0".decode("utf-8", "surrogateescape")


def pack(tree: Tree) -> bytes:
    stream = io.BytesIO()
    write_tar(tree, stream, EPOCH)
    return stream.getvalue()


def round_trip(tree: Tree, path: Path) -> Tree:
    path.write_bytes(pack(tree))
    return read_tar(path)


def make_tree() -> Tree:
    """One of everything."""
    tree = Tree()
    tree.folder("/usr", 0o755)
    tree.folder("/usr/bin", 0o2750, uid=3, gid=70_000)
    tree.file("/usr/bin/su", b"x" * 1000, 0o4755, uid=0, gid=4_000_000_000)
    tree.file("/usr/bin/empty", b"")
    tree.nodes["/usr/bin/su-too"] = Node("hardlink", 0o4755, target="/usr/bin/su")
    tree.link("/bin", "usr/bin")
    tree.link("/long-link", "/" + "t/" * 150 + "t")
    tree.file("/" + "n" * 120 + "/" + "m" * 200, "long name")
    tree.file("/größe €", "not ASCII")
    tree.nodes["/dev"] = Node("folder", 0o755)
    tree.nodes["/dev/null"] = Node("device", 0o666, device=("c", 1, 3))
    tree.nodes["/dev/vda"] = Node("device", 0o660, device=("b", 254, 0), gid=6)
    tree.nodes["/usr/bin/ping"] = Node("file", 0o755, b"ping", xattrs=(("security.capability", CAPABILITY),))
    return tree


def test_everything_survives_an_archive(tmp_path: Path) -> None:
    before, after = make_tree(), round_trip(make_tree(), tmp_path / "a.tar")
    after.nodes.pop("/" + "n" * 120)  # the folder that nobody named
    assert set(after.nodes) == set(before.nodes)
    for path, node in before.nodes.items():
        other = after.nodes[path]
        assert (other.kind, other.mode, other.uid, other.gid) == (node.kind, node.mode, node.uid, node.gid), path
        assert (other.target, other.device, other.xattrs) == (node.target, node.device, node.xattrs), path
        if node.kind == "file":
            assert after.read(path) == before.read(path)


def test_contents_stay_in_the_archive_and_go_from_there_into_the_next(tmp_path: Path) -> None:
    once = round_trip(make_tree(), tmp_path / "a.tar")
    content = once.nodes["/usr/bin/su"].content
    assert isinstance(content, Slice)
    assert content.path == tmp_path / "a.tar"
    assert pack(once) == (tmp_path / "a.tar").read_bytes()


def test_the_same_tree_in_another_order_is_the_same_bytes() -> None:
    tree = make_tree()
    other = Tree(dict(reversed(tree.nodes.items())))
    assert pack(other) == pack(tree)


def test_an_archive_is_sorted_dated_and_names_no_user() -> None:
    with tarfile.open(fileobj=io.BytesIO(pack(make_tree()))) as archive:
        members = archive.getmembers()
    names = [member.name for member in members]
    assert names[0] == "."
    assert names[1:] == sorted(names[1:], key=lambda name: name.split("/"))
    assert {member.mtime for member in members} == {EPOCH}
    assert {(member.uname, member.gname) for member in members} == {("", "")}
    assert len(pack(make_tree())) % 512 == 0


def test_folders_that_nobody_named_are_there_and_open(tmp_path: Path) -> None:
    tree = Tree()
    tree.file("/a/b/c", "x")
    after = round_trip(tree, tmp_path / "a.tar")
    assert [(path, after.nodes[path].mode) for path in ("/a", "/a/b")] == [("/a", 0o755), ("/a/b", 0o755)]
    assert set(tree.nodes) == {"/a/b/c"}


def test_a_hard_link_stands_behind_its_target(tmp_path: Path) -> None:
    """Programs that make file systems of archives cannot make a link to what is not there yet."""
    tree = Tree()
    tree.file("/usr/z", "content", 0o755)
    tree.file("/a", "other")
    for path in ("/usr/lib/a/x", "/usr/lib/y", "/zz"):
        tree.nodes[path] = Node("hardlink", 0o755, target="/usr/z")
    after = round_trip(tree, tmp_path / "a.tar")
    files = {path: (node.kind, node.target) for path, node in after.nodes.items() if node.kind != "folder"}
    assert files == {
        "/a": ("file", ""),
        "/usr/lib/a/x": ("file", ""),
        "/usr/lib/y": ("hardlink", "/usr/lib/a/x"),
        "/usr/z": ("hardlink", "/usr/lib/a/x"),
        "/zz": ("hardlink", "/usr/lib/a/x"),
    }
    assert after.read("/usr/lib/a/x") == b"content"
    assert pack(after) == pack(tree)


def test_hard_links_of_a_folder_can_be_unpacked_in_order(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a").mkdir(parents=True)
    (root / "b").write_text("content")
    os.link(root / "b", root / "a/x")
    out = tmp_path / "out"
    made: set[str] = set()
    with tarfile.open(fileobj=io.BytesIO(pack(read_folder(root)))) as archive:
        for member in archive:
            assert not member.islnk() or member.linkname in made
            made.add(member.name)
            archive.extract(member, out, filter="fully_trusted")
    assert (out / "a/x").samefile(out / "b")
    assert (out / "b").read_text() == "content"


def test_archives_of_others_are_read_too(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w", format=tarfile.GNU_FORMAT) as archive:
        for name, kind, link in (
            ("./", tarfile.DIRTYPE, ""),
            ("./usr/", tarfile.DIRTYPE, ""),
            ("./usr/" + "n" * 150, tarfile.REGTYPE, ""),
            ("./usr/b", tarfile.LNKTYPE, "./usr/" + "n" * 150),
            ("/abs", tarfile.SYMTYPE, "./usr"),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, link
            archive.addfile(info)
    nodes = read_tar(tmp_path / "a.tar").nodes
    assert set(nodes) == {"/usr", "/usr/" + "n" * 150, "/usr/b", "/abs"}
    assert nodes["/usr/b"].target == "/usr/" + "n" * 150
    assert nodes["/abs"].target == "./usr"


def test_an_archive_that_has_become_shorter_is_an_error_with_its_name(tmp_path: Path) -> None:
    tree = round_trip(make_tree(), tmp_path / "a.tar")
    os.truncate(tmp_path / "a.tar", 4096)
    with pytest.raises(OSError, match="is shorter than its index says") as caught:
        pack(tree)
    assert caught.value.filename == str(tmp_path / "a.tar")


def test_an_archive_that_ends_in_the_middle_is_refused(tmp_path: Path) -> None:
    data = pack(make_tree())
    (tmp_path / "a.tar").write_bytes(data[: len(data) // 2 + 100])
    with pytest.raises(tarfile.ReadError):
        read_tar(tmp_path / "a.tar")
