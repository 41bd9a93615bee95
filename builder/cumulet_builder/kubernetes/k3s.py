"""k3s in an image: the pinned release, or the same files from disk, verified before use."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cumulet.core.documents import make_error, suggest
from cumulet.core.errors import Problem, ToolError, UsageError
from cumulet.core.files import sha256_file
from cumulet.kubernetes import k3s
from cumulet.kubernetes.model import Cluster, Join, Node, Setup
from cumulet_builder.download import Request, download, fetch_text
from cumulet_builder.kubernetes.inventory import Component, write_inventory
from cumulet_builder.kubernetes.kubeadm import digest_setup
from cumulet_builder.kubernetes.pins import K3sAssets, K3sPin, find_pin, load_flags, load_pin_file
from cumulet_builder.kubernetes.preflight import K3S, Requirements
from cumulet_builder.kubernetes.surroundings import (
    Surroundings,
    get_settings,
    make_cluster,
    make_setup_tree,
    write_tree,
)
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.recipe.model import Kubernetes, Recipe
from cumulet_builder.tree import Tree, merge

CODE = "2"
REQUIREMENTS: Requirements = K3S
# k3s brings its own container runtime, CNI plugins and iptables.
PACKAGES: tuple[str, ...] = ("ca-certificates", "iproute2", "kmod", "mount")
LICENCE = "Apache-2.0"


def make_stages(recipe: Recipe, around: Surroundings) -> list[Stage]:
    """The stage `kubernetes`. Raises UsageError for a pin without checksums, missing files, unknown settings."""
    settings = get_settings(recipe)
    path = find_pin(around.recipes, "k3s", settings.version)
    pin = load_pin_file(path, "k3s")
    if not isinstance(pin, K3sPin):
        raise UsageError(f"{path}: not a pin of k3s")
    if settings.source == "modules":
        raise UsageError("kubernetes.source: k3s cannot come from 'modules'", hint="set it to release or file")
    cluster = make_cluster(settings)
    found = check_settings(load_flags(path.parent / pin.flags), cluster)
    if found:
        raise make_error(found)
    if settings.source == "file":
        return [_make_file_stage(settings, cluster, pin)]
    assets = pin.assets.get(recipe.board.architecture)
    if assets is None:
        raise UsageError(f"{path}: names no files for {recipe.board.architecture}", hint="add them to its assets")
    return [_make_release_stage(pin, assets, cluster, str(path))]


def _make_release_stage(pin: K3sPin, assets: K3sAssets, cluster: Cluster, pin_file: str) -> Stage:
    digests = {assets.binary: assets.binary_sha256, assets.images: assets.images_sha256}
    for name, digest in digests.items():
        if digest is None:
            raise UsageError(
                f"{pin_file}: no SHA-256 of {name}, so a download could not be verified",
                hint=f"cumulet pin k3s {pin.release}, or kubernetes.source: file",
            )
    known = {name: digest for name, digest in digests.items() if digest is not None}
    setup = k3s.make_image_setup(cluster)

    def make(workshop: Workshop) -> None:
        if not all(workshop.cache.have_file(digest) for digest in known.values()):
            check_sums(fetch_text(make_url(pin, assets.sums)), known, assets.sums)
            wanted = [Request(make_url(pin, name), digest, None, name) for name, digest in known.items()]
            download(wanted, workshop.cache)
        files = {name: workshop.cache.file(digest) for name, digest in known.items()}
        _fill(setup, files[assets.binary], (assets.images, files[assets.images]), pin.release, workshop)

    inputs = {"code": CODE, "release": pin.release, "setup": digest_setup(setup), **known}
    return Stage("kubernetes", inputs, make)


def _make_file_stage(settings: Kubernetes, cluster: Cluster, pin: K3sPin) -> Stage:
    paths: dict[str, Path] = {what: Path(named) for what, named in settings.files.items()}
    problems = find_file_problems(paths)
    if problems:
        raise make_error(problems)
    setup = k3s.make_image_setup(cluster)

    def make(workshop: Workshop) -> None:
        _fill(setup, paths["binary"], (paths["images"].name, paths["images"]), pin.release, workshop)

    inputs = {"code": CODE, "release": pin.release, "setup": digest_setup(setup), "name": paths["images"].name}
    return Stage("kubernetes", inputs | {what: sha256_file(path) for what, path in paths.items()}, make)


def find_file_problems(paths: Mapping[str, Path]) -> list[Problem]:
    """What is wrong with the two files that `source: file` names."""
    found: list[Problem] = []
    for what in ("binary", "images"):
        place, path = f"kubernetes.files.{what}", paths.get(what)
        if path is None:
            found.append(Problem(place, 0, 0, "is not named", "files: {binary: PATH, images: PATH}"))
        elif not path.is_file():
            found.append(Problem(place, 0, 0, f"{path}: no such file", "name a file of this computer"))
        elif what == "images" and not path.name.endswith(k3s.ARCHIVES):
            found.append(Problem(place, 0, 0, f"{path}: k3s imports no file of this name", "keep the release's name"))
    return found


def _fill(setup: Setup, binary: Path, images: tuple[str, Path], release: str, workshop: Workshop) -> None:
    name, archive = images
    digest = sha256_file(archive)
    tree = Tree()
    tree.file("/usr/bin/k3s", binary, 0o755)
    # k3s tells by its ending how an archive is compressed, and by its name whether it knows it already.
    tree.file(f"{k3s.IMAGES}/{digest[:16]}-{name}", archive)
    tree.folder("/var/lib/rancher")
    tree.folder("/var/lib/kubelet")
    write_tree(merge([make_setup_tree(setup), tree]), workshop.folder / "kubernetes.tar", workshop)
    data = Tree()
    data.folder("/state/rancher")
    write_tree(data, workshop.folder / "data.tar", workshop)
    components = [
        Component("k3s", release, "program", LICENCE, sha256_file(binary)),
        Component(name, release, "file", "NOASSERTION", digest),
    ]
    write_inventory(components, workshop.folder / "inventory.json")


def make_url(pin: K3sPin, name: str) -> str:
    """The address of a file of the release."""
    return f"{pin.base.rstrip('/')}/{quote(pin.release, safe='')}/{quote(name)}"


def read_sums(text: str) -> dict[str, str]:
    """File name -> SHA-256 of a list as `sha256sum` writes it; other lines are passed over."""
    rows = re.finditer(r"^([0-9a-fA-F]{64}) [ *](\S+)$", text, re.MULTILINE)
    return {row[2]: row[1].lower() for row in rows}


def check_sums(text: str, pinned: Mapping[str, str], name: str) -> None:
    """Raise ToolError if the release's own list says another SHA-256 than the pin."""
    sums = read_sums(text)
    for file, digest in pinned.items():
        if sums.get(file) != digest:
            raise ToolError(
                f"{name}: {file}: the release says sha256 {sums.get(file, 'nothing')}, the pin says {digest}",
                hint="do not trust this download; compare with the release page",
            )


def check_settings(flags: Mapping[str, set[str]], cluster: Cluster) -> list[Problem]:
    """A problem for every key, of any role, that the pinned version has no flag for."""
    join = Join("server:6443", "token", "")
    found: list[Problem] = []
    for role in ("single", "control", "master", "worker"):
        mode = "agent" if role == "worker" else "server"
        for entry in (None, join) if role != "worker" else (join,):
            config = k3s.make_config(cluster, Node("n", role, "a"), entry)
            found += [
                Problem(f"k3s {mode} ({role})", 0, 0, f"unknown setting {key!r}", suggest(key, flags[mode]))
                for key in unknown_keys(config, flags[mode])
            ]
    return list(dict.fromkeys(found))


def unknown_keys(config: Mapping[str, Any], flags: set[str]) -> Iterable[str]:
    """The keys of a config.yaml that are no flags; `x+` adds to the list `x`."""
    return [key for key in config if key.removesuffix("+") not in flags]
