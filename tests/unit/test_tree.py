"""Trees as values: merging layers and leaving things out."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet_builder.tree import Node, Slice, Tree, filter_tree, merge, read_folder


def tree(**files: str) -> Tree:
    """A tree of files with content, by path with `_` for `/`: `usr_bin_a="x"`."""
    made = Tree()
    for name, text in files.items():
        made.file("/" + name.replace("_", "/"), text)
    return made


def hardlink(made: Tree, path: str, target: str) -> None:
    made.nodes[path] = Node("hardlink", 0o644, target=target)


def text(made: Tree, path: str) -> str:
    """The content of a file, or of what a hard link leads to."""
    node = made.nodes[path]
    return made.read(node.target if node.kind == "hardlink" else path).decode()


# Building and reading.


def test_a_file_may_be_bytes_text_or_a_file_of_this_computer(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("from disk")
    made = Tree()
    made.file("/a", b"bytes")
    made.file("/b", "é", 0o755, uid=1, gid=2)
    made.file("/c", tmp_path / "a")
    assert [made.read(path) for path in made.nodes] == [b"bytes", "é".encode(), b"from disk"]
    assert [node.size for node in made.nodes.values()] == [5, 2, 9]
    assert (made.nodes["/b"].mode, made.nodes["/b"].uid, made.nodes["/b"].gid) == (0o755, 1, 2)


def test_walking_gives_a_folder_before_what_is_in_it() -> None:
    made = Tree()
    for path in ("/a-b", "/a/x", "/a", "/a.c", "/a/x/y", "/a/x-z"):
        made.folder(path)
    assert [path for path, _ in made.walk()] == ["/a", "/a/x", "/a/x/y", "/a/x-z", "/a-b", "/a.c"]


# Merging.


def test_the_later_layer_wins() -> None:
    merged = merge([tree(etc_a="1", etc_b="1"), tree(etc_b="2", etc_c="2")])
    assert {path: text(merged, path) for path in merged.nodes} == {"/etc/a": "1", "/etc/b": "2", "/etc/c": "2"}


def test_a_folder_keeps_its_mode_under_a_later_one() -> None:
    first, second = Tree(), Tree()
    first.folder("/tmp", 0o1777)
    second.folder("/tmp", 0o755)
    second.folder("/new", 0o700)
    merged = merge([first, second])
    assert merged.nodes["/tmp"].mode == 0o1777
    assert merged.nodes["/new"].mode == 0o700


@pytest.mark.parametrize("target", ["usr/bin", "/usr/bin", "./usr/../usr/bin"])
def test_a_path_below_a_linked_top_folder_lands_where_the_link_points(target: str) -> None:
    first = tree(usr_bin_a="1")
    first.link("/bin", target)
    second = tree(bin_a="2", bin_b="2")
    second.folder("/bin")
    merged = merge([first, second])
    assert merged.nodes["/bin"].kind == "link"
    assert {path for path in merged.nodes if path != "/bin"} == {"/usr/bin/a", "/usr/bin/b"}
    assert text(merged, "/usr/bin/a") == "2"


def test_links_to_links_and_relative_links_are_followed() -> None:
    first = Tree()
    first.link("/lib", "usr/lib")
    first.link("/usr/lib/modules", "../share/modules")
    first.link("/var/run", "/run")
    merged = merge([first, tree(lib_modules_a="1", var_run_b="2")])
    assert {path for path, node in merged.nodes.items() if node.kind == "file"} == {"/usr/share/modules/a", "/run/b"}


def test_a_link_of_a_later_layer_moves_only_what_comes_after_it() -> None:
    first, second = Tree(), Tree()
    first.link("/a", "old")
    second.link("/a", "new")
    merged = merge([first, tree(a_x="1"), second, tree(a_y="2")])
    assert {path for path, node in merged.nodes.items() if node.kind == "file"} == {"/old/x", "/new/y"}


def test_a_file_that_replaces_a_link_is_a_file() -> None:
    first = Tree()
    first.link("/etc/localtime", "/usr/share/zoneinfo/UTC")
    merged = merge([first, tree(etc_localtime="x")])
    assert merged.nodes["/etc/localtime"].kind == "file"
    assert "/usr/share/zoneinfo/UTC" not in merged.nodes


def test_links_in_a_circle_end() -> None:
    first = Tree()
    first.link("/a", "b")
    first.link("/b", "a")
    assert len(merge([first, tree(a_x="1")]).nodes) == 3


def test_the_target_of_a_hard_link_is_followed_like_a_path() -> None:
    first, second = Tree(), tree(bin_a="1")
    first.link("/bin", "usr/bin")
    hardlink(second, "/bin/b", "/bin/a")
    merged = merge([first, second])
    assert merged.nodes["/usr/bin/b"].target == "/usr/bin/a"
    assert text(filter_tree(merged, lambda path, _: path != "/usr/bin/a"), "/usr/bin/b") == "1"


def test_a_new_file_does_not_change_what_was_hard_linked_to_the_old_one() -> None:
    first = tree(b="old")
    hardlink(first, "/a", "/b")
    hardlink(first, "/c", "/b")
    merged = merge([first, tree(b="new")])
    assert {path: text(merged, path) for path in merged.nodes} == {"/a": "old", "/b": "new", "/c": "old"}


def test_a_layer_that_brings_a_file_and_its_hard_link_replaces_both() -> None:
    layers = []
    for content in ("old", "new"):
        layer = tree(b=content)
        hardlink(layer, "/a", "/b")
        layers.append(layer)
    merged = merge(layers)
    assert {path: text(merged, path) for path in merged.nodes} == {"/a": "new", "/b": "new"}


def test_merging_changes_no_layer() -> None:
    first, second = tree(b="1"), tree(b="2")
    hardlink(first, "/a", "/b")
    merge([first, second])
    assert first.nodes["/a"].kind == "hardlink"
    assert first.read("/b") == b"1"


# Leaving things out.


def refuse(*paths: str) -> Callable[[str, Node], bool]:
    return lambda path, node: path not in paths


def test_what_is_below_a_refused_folder_is_out() -> None:
    made = tree(a_x="1", a_b_y="1", ab="1", b="1")
    made.folder("/a")
    made.folder("/a/b")
    assert set(filter_tree(made, refuse("/a")).nodes) == {"/ab", "/b"}
    assert set(made.nodes) > {"/a", "/a/x"}


def test_a_refused_file_takes_nothing_else_with_it() -> None:
    assert set(filter_tree(tree(a="1", ab="1"), refuse("/a")).nodes) == {"/ab"}


def test_a_hard_link_whose_target_is_dropped_becomes_the_file() -> None:
    made = tree(a="content")
    hardlink(made, "/b", "/a")
    hardlink(made, "/c", "/a")
    left = filter_tree(made, refuse("/a"))
    assert {path: text(left, path) for path in left.nodes} == {"/b": "content", "/c": "content"}
    assert filter_tree(made, refuse("/b")).nodes["/c"].kind == "hardlink"


# From a folder.


def test_a_folder_of_this_computer_becomes_a_tree(tmp_path: Path) -> None:
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "usr/bin/a").write_text("a")
    (tmp_path / "usr/bin/a").chmod(0o4755)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "gone").symlink_to("/nowhere")
    os.link(tmp_path / "usr/bin/a", tmp_path / "usr/bin/b")
    made = read_folder(tmp_path)
    assert {path: node.kind for path, node in made.nodes.items()} == {
        "/bin": "link",
        "/gone": "link",
        "/usr": "folder",
        "/usr/bin": "folder",
        "/usr/bin/a": "file",
        "/usr/bin/b": "hardlink",
    }
    assert made.nodes["/usr/bin/a"].content == Slice(tmp_path / "usr/bin/a", 0, 1)
    assert made.nodes["/usr/bin/a"].mode == 0o4755
    assert made.nodes["/usr/bin/b"].target == "/usr/bin/a"
    assert made.nodes["/gone"].target == "/nowhere"
    assert {node.uid for node in made.nodes.values()} == {os.getuid()}


def test_sockets_and_pipes_of_programs_that_ran_stay_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        assert read_folder(tmp_path).nodes == {}
