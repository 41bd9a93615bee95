"""What of an assembled root a container gets: the packages asked for and what they depend on, and no more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from debian.deb822 import Deb822, PkgRelation

from cumulet_builder.engines.debian.trim import want_shipped
from cumulet_builder.recipe.model import Trim
from cumulet_builder.tree import Tree, filter_tree, follow

STATUS = "/var/lib/dpkg/status"
# A container without them is not what programs expect: users, names of services, a shell for `sh -c`.
ALWAYS = ("base-files", "base-passwd", "dash", "libc6", "netbase")
# Of no package, and of no use without the package manager or an init.
UNOWNED = ("/var/lib/dpkg*", "/var/lib/systemd*", "/var/lib/apt*", "/etc/systemd*", "/var/log/*", "/etc/alternatives/*")
NEEDS = ("Depends", "Pre-Depends")


def find_closure(status: str, wanted: Iterable[str]) -> set[str]:
    """Names of the installed packages that are wanted, with what they depend on.

    Essential packages are depended on by everything and named by nothing, so they are here only if somebody names them.
    """
    packages: dict[str, list[list[str]]] = {}
    provided: dict[str, str] = {}
    for record in Deb822.iter_paragraphs(status, use_apt_pkg=False):
        name = str(record["Package"])
        packages[name] = [each for key in NEEDS for each in _read_relations(record, key)]
        for choices in _read_relations(record, "Provides"):
            provided.setdefault(choices[0], name)
    found: set[str] = set()
    todo = list(wanted)
    while todo:
        name = todo.pop()
        name = name if name in packages else provided.get(name, name)
        if name in found or name not in packages:
            continue
        found.add(name)
        for choices in packages[name]:
            todo += [choice for choice in choices if choice in packages or choice in provided][:1]
    return found


def _read_relations(record: Deb822, key: str) -> list[list[str]]:
    """What a field names, each with its alternatives."""
    if key not in record:
        return []
    return [[str(choice["name"]) for choice in each] for each in PkgRelation.parse_relations(record[key])]


def make_base_tree(root: Tree, owners: Mapping[str, Sequence[str]], wanted: Iterable[str]) -> Tree:
    """The root with the wanted packages' files, and those of no package that are of use."""
    keep = find_closure(root.read(STATUS).decode(), [*ALWAYS, *wanted])
    links = {path: node.target for path, node in root.nodes.items() if node.kind == "link"}
    # Packages of Debian 12 say /bin/cat of what lies in /usr/bin.
    owner = {follow(path, links.get): package for package, paths in owners.items() for path in paths}
    folders = {path for path, node in root.nodes.items() if node.kind == "folder"}

    def want(path: str) -> bool:
        if path in folders:
            return True
        package = owner.get(path)
        if package is not None:
            return package.partition(":")[0] in keep
        return not any(fnmatchcase(path, pattern) for pattern in UNOWNED)

    shipped = want_shipped(Trim())
    kept = filter_tree(root, lambda path, node: shipped(path) and want(path))
    return drop_empty(kept)


def drop_empty(tree: Tree) -> Tree:
    """The tree without folders that have nothing in them, but for those that programs write into."""
    used = {"/tmp", "/var/tmp", "/run", "/proc", "/sys", "/dev", "/root", "/etc"}
    full = set()
    for path, node in tree.nodes.items():
        if node.kind != "folder" or path in used:
            full |= {path[:end] for end, letter in enumerate(path) if letter == "/" and end}
    return Tree({path: node for path, node in tree.nodes.items() if node.kind != "folder" or path in full | used})


def drop_paths(tree: Tree, patterns: Sequence[str]) -> Tree:
    """The tree without what the patterns name."""
    return filter_tree(tree, lambda path, _: not any(fnmatchcase(path, pattern) for pattern in patterns))
