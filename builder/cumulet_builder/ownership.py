"""Who put each file into the root: a package, a stage, the recipe, or the configuring of a package. Pure.

A file that nobody answers for is a fault of the build: it cannot be in a bill of materials, and nobody will mend it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

from cumulet.core.errors import TargetError
from cumulet_builder.tree import Tree, follow

Kind = Literal["package", "stage", "settings", "recipe"]
SHOWN = 10
# Written by maintainer scripts: pattern -> the package whose script it is. First match counts.
CONFIGURED: tuple[tuple[str, str], ...] = (
    ("/etc/alternatives/*", "dpkg"),
    ("/etc/ca-certificates.conf", "ca-certificates"),
    ("/etc/ssl/certs/*", "ca-certificates"),
    ("/etc/default/locale", "libc-bin"),
    ("/etc/environment", "libpam-runtime"),
    ("/etc/pam.d/common-*", "libpam-runtime"),
    ("/etc/security/opasswd", "libpam-modules"),
    ("/etc/ld.so.cache", "libc-bin"),
    ("/etc/localtime", "tzdata"),
    ("/etc/timezone", "tzdata"),
    ("/etc/group", "base-passwd"),
    ("/etc/passwd", "base-passwd"),
    ("/etc/shadow", "base-passwd"),
    ("/etc/gshadow", "base-passwd"),
    ("/etc/subuid", "base-passwd"),
    ("/etc/subgid", "base-passwd"),
    ("/etc/shells", "debianutils"),
    ("/var/lib/shells.state", "debianutils"),
    ("/etc/hosts.allow", "base-files"),
    ("/etc/hosts.deny", "base-files"),
    ("/etc/inputrc", "base-files"),
    ("/etc/profile", "base-files"),
    ("/etc/motd", "base-files"),
    ("/etc/mtab", "mount"),
    ("/etc/networks", "netbase"),
    ("/etc/nsswitch.conf", "libc-bin"),
    ("/etc/modules", "kmod"),
    ("/etc/vconsole.conf", "systemd"),
    ("/etc/locale.conf", "systemd"),
    ("/etc/python3/*", "python3-minimal"),
    ("/etc/python3*/*", "python3-minimal"),
    ("/var/lib/python/*", "python3-minimal"),
    ("/etc/runit/runsvdir/default/*", "openssh-server"),
    ("/etc/ssh/sshd_config", "openssh-server"),
    ("/etc/systemd/*", "systemd"),
    ("/usr/share/info/dir", "install-info"),
    ("/usr/local/man", "base-files"),
    ("/var/spool/mail", "base-files"),
    ("/var/lib/dpkg/*", "dpkg"),
    ("/var/lib/wtmpdb/*", "libwtmpdb0"),
    ("/etc/apparmor.d/local/*chronyd", "chrony"),
    ("/etc/chatscripts/*", "ppp"),
    ("/etc/sgml/*", "sgml-base"),
    ("/etc/xml/*", "xml-core"),
)


@dataclass(frozen=True, slots=True)
class Owner:
    """Who answers for a file. `made`: the package's scripts made it, it is not in the package."""

    kind: Kind
    name: str
    made: bool = False


def find_owners(
    tree: Tree,
    packages: Mapping[str, Sequence[str]],
    layers: Mapping[str, Tree],
    settings: Tree,
    files: Tree,
) -> dict[str, Owner]:
    """Path -> owner, of every file, link and device of a root that has one. A later layer wins, as in the root."""
    known = {path: Owner("package", name) for name, paths in packages.items() for path in paths}
    for layer, each in layers.items():
        known |= {path: Owner("stage", layer) for path, node in each.nodes.items() if node.kind != "folder"}
    known |= {path: Owner("settings", "settings") for path, node in settings.nodes.items() if node.kind != "folder"}
    known |= {path: Owner("recipe", "files") for path in files.nodes}
    links = {path: node.target for path, node in tree.nodes.items() if node.kind == "link"}
    owners: dict[str, Owner] = {}
    for path, node in tree.nodes.items():
        if node.kind == "folder":
            continue
        found = known.get(path) or known.get(_source_of(path))
        if found is None and node.kind == "link":
            found = _owner_behind(path, links, known)
        found = found or _configured(path, packages)
        if found is not None:
            owners[path] = found
    return owners


def find_unowned(tree: Tree, owners: Mapping[str, Owner]) -> list[str]:
    """The paths that nobody answers for. Folders are not asked about: they come with what is in them."""
    return sorted(path for path, node in tree.nodes.items() if node.kind != "folder" and path not in owners)


def check_owned(image: str, tree: Tree, owners: Mapping[str, Owner]) -> None:
    """Raise TargetError naming files that nobody answers for."""
    paths = find_unowned(tree, owners)
    if not paths:
        return
    shown = ", ".join(paths[:SHOWN]) + (f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else "")
    raise TargetError(
        f"{image}: no package, feature or stage owns {shown}",
        hint="a package's script made it: drop it (trim.drop), or name its package in ownership.py",
    )


def _configured(path: str, packages: Mapping[str, Sequence[str]]) -> Owner | None:
    for pattern, package in CONFIGURED:
        if fnmatchcase(path, pattern):
            return Owner("package", package, made=True)
    # Scripts write into places of their package's name: /etc/chrony/chrony.conf, /var/lib/sgml-base.
    words = [word for part in path.split("/")[2:] for word in (part, *part.split("."))]
    named = next((word for word in words if word in packages), None)
    return Owner("package", named, made=True) if named else None


def _owner_behind(path: str, links: Mapping[str, str], known: Mapping[str, Owner]) -> Owner | None:
    """A link that a script made belongs to whom it leads to: alternatives, units that are started."""
    seen: set[str] = set()
    while path in links and path not in seen:
        seen.add(path)
        path = follow(posixpath.normpath(posixpath.join(posixpath.dirname(path), links[path])), links.get)
        if path in known:
            return Owner(known[path].kind, known[path].name, made=True)
    return None


def _source_of(path: str) -> str:
    """The Python source that a compiled module was made from."""
    return re.sub(r"__pycache__/([^/.]+)\.[^/]*\.pyc$", r"\1.py", path)


def count_owners(owners: Iterable[Owner]) -> dict[str, int]:
    """Kind -> number of files."""
    counts: dict[str, int] = {}
    for owner in owners:
        counts[owner.kind] = counts.get(owner.kind, 0) + 1
    return counts
