"""Who answers for each file of a root, and that a file of nobody's ends the build."""

from __future__ import annotations

import pytest

from cumulet.core.errors import TargetError
from cumulet_builder.ownership import Owner, check_owned, find_owners, find_unowned
from cumulet_builder.tree import Tree

PACKAGES = {"mawk": ["/usr/bin/mawk"], "chrony": [], "python3-x": ["/usr/lib/python3/x.py"], "nginx": []}


def make_tree(*paths: str) -> Tree:
    tree = Tree()
    for path in paths:
        tree.file(path, "x")
    return tree


def owners_of(tree: Tree, **layers: Tree) -> dict[str, Owner]:
    settings, files = make_tree("/usr/lib/cumulet/firewall"), make_tree("/etc/motd")
    return find_owners(tree, PACKAGES, layers, settings, files)


def test_each_kind_of_owner() -> None:
    tree = make_tree(
        "/usr/bin/mawk", "/usr/bin/kube", "/usr/lib/cumulet/firewall", "/etc/motd", "/etc/passwd",
        "/usr/lib/python3/__pycache__/x.cpython-313.pyc", "/etc/chrony/chrony.conf",
    )  # fmt: skip
    tree.link("/usr/bin/awk", "/etc/alternatives/awk")
    tree.link("/etc/alternatives/awk", "/usr/bin/mawk")
    tree.folder("/srv")
    assert owners_of(tree, kubernetes=make_tree("/usr/bin/kube")) == {
        "/usr/bin/mawk": Owner("package", "mawk"),
        "/usr/bin/kube": Owner("stage", "kubernetes"),
        "/usr/lib/cumulet/firewall": Owner("settings", "settings"),
        "/etc/motd": Owner("recipe", "files"),
        "/etc/passwd": Owner("package", "base-passwd", made=True),
        "/usr/lib/python3/__pycache__/x.cpython-313.pyc": Owner("package", "python3-x"),
        "/etc/chrony/chrony.conf": Owner("package", "chrony", made=True),
        "/usr/bin/awk": Owner("package", "mawk", made=True),
        "/etc/alternatives/awk": Owner("package", "mawk", made=True),
    }


def test_a_later_layer_answers_for_what_it_replaces() -> None:
    assert owners_of(make_tree("/usr/bin/mawk"), sdk=make_tree("/usr/bin/mawk"))["/usr/bin/mawk"].name == "sdk"


def test_a_file_of_nobodys_ends_the_build() -> None:
    tree = make_tree("/usr/bin/mawk", "/opt/left/over")
    owners = owners_of(tree)
    assert find_unowned(tree, owners) == ["/opt/left/over"]
    with pytest.raises(TargetError) as caught:
        check_owned("edge", tree, owners)
    assert caught.value.message == "edge: no package, feature or stage owns /opt/left/over"


def test_many_are_counted() -> None:
    tree = make_tree(*(f"/opt/{number:02}" for number in range(14)))
    with pytest.raises(TargetError, match="/opt/09 and 4 more"):
        check_owned("edge", tree, owners_of(tree))
