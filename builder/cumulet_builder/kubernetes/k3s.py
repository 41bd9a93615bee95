"""k3s in an image: the pinned release, or the same files from disk, verified before use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cumulet.core.errors import Problem, ToolError, UsageError
from cumulet.core.files import sha256_file
from cumulet.kubernetes import k3s
from cumulet.kubernetes.model import Cluster, Join, Node, Setup
from cumulet_builder.download import Request, download, fetch_text
from cumulet_builder.kubernetes.inventory import Component, write_inventory
from cumulet_builder.kubernetes.kubeadm import digest_setup
from cumulet_builder.kubernetes.pins import K3sAssets, K3sPin, find_pin, load_pin_file
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

CODE = "1"
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
        raise UsageError(f"{path.name}: k3s has no such settings", problems=found)
    if settings.source == "file":
        return [_make_file_stage(settings, cluster, pin)]
    assets = pin.assets[recipe.board.architecture]
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
    problems, paths = [], {}
    for what in ("binary", "images"):
        named = settings.files.get(what)
        if not named or not Path(named).is_file():
            problems.append(Problem("kubernetes.files", 0, 0, f"{what}: {named or 'not named'}: no such file"))
        else:
            paths[what] = Path(named)
    if problems:
        raise UsageError(
            "kubernetes.source: file needs two files", problems=problems, hint="set kubernetes.files.binary and .images"
        )
    setup = k3s.make_image_setup(cluster)

    def make(workshop: Workshop) -> None:
        _fill(setup, paths["binary"], (paths["images"].name, paths["images"]), pin.release, workshop)

    digests = {what: sha256_file(path) for what, path in paths.items()}
    return Stage("kubernetes", {"code": CODE, "setup": digest_setup(setup), **digests}, make)


def _fill(setup: Setup, binary: Path, images: tuple[str, Path], release: str, workshop: Workshop) -> None:
    name, archive = images
    tree = Tree()
    tree.file("/usr/bin/k3s", binary, 0o755)
    # k3s tells by its ending how an archive is compressed.
    tree.file(f"{k3s.IMAGES}/{name}", archive)
    tree.folder("/var/lib/rancher")
    tree.folder("/var/lib/kubelet")
    write_tree(merge([make_setup_tree(setup), tree]), workshop.folder / "kubernetes.tar", workshop)
    data = Tree()
    data.folder("/state/rancher")
    write_tree(data, workshop.folder / "data.tar", workshop)
    components = [
        Component("k3s", release, "program", LICENCE, sha256_file(binary)),
        Component(name, release, "file", "NOASSERTION", sha256_file(archive)),
    ]
    write_inventory(components, workshop.folder / "inventory.json")


def make_url(pin: K3sPin, name: str) -> str:
    """The address of a file of the release."""
    return f"{pin.base.rstrip('/')}/{quote(pin.release, safe='')}/{quote(name)}"


def read_sums(text: str) -> dict[str, str]:
    """File name -> SHA-256 of a list as `sha256sum` writes it."""
    rows = (line.split() for line in text.splitlines())
    return {words[1].lstrip("*"): words[0].lower() for words in rows if len(words) == 2}


def check_sums(text: str, pinned: Mapping[str, str], name: str) -> None:
    """Raise ToolError if the release's own list says another SHA-256 than the pin."""
    sums = read_sums(text)
    for file, digest in pinned.items():
        if sums.get(file) != digest:
            raise ToolError(
                f"{name}: {file}: the release says sha256 {sums.get(file, 'nothing')}, the pin says {digest}",
                hint="do not trust this download; compare with the release page",
            )


def load_flags(path: Path) -> dict[str, set[str]]:
    """`server` and `agent` -> names of their flags. Raises UsageError if the file is no such list."""
    import yaml  # noqa: PLC0415 - slow to import

    try:
        document: dict[str, Any] = yaml.safe_load(path.read_text())
        return {mode: set(document["both"]) | set(document.get(mode) or ()) for mode in ("server", "agent")}
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: not a list of flags: {error}", hint="restore it from the repository") from error


def check_settings(flags: Mapping[str, set[str]], cluster: Cluster) -> list[Problem]:
    """A problem for every key, of any role, that the pinned version has no flag for."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for problems

    join = Join("server:6443", "token", "")
    found: list[Problem] = []
    for role in ("single", "control", "master", "worker"):
        mode = "agent" if role == "worker" else "server"
        for entry in (None, join) if role != "worker" else (join,):
            config = k3s.make_config(cluster, Node("n", role, "a"), entry)
            for key in unknown_keys(config, flags[mode]):
                near = get_close_matches(key, flags[mode], 1)
                problem = Problem(
                    f"k3s {mode} ({role})",
                    0,
                    0,
                    f"unknown setting {key!r}",
                    f"did you mean {near[0]!r}?" if near else "",
                )
                if problem not in found:
                    found.append(problem)
    return found


def unknown_keys(config: Mapping[str, Any], flags: set[str]) -> Iterable[str]:
    """The keys of a config.yaml that are no flags; `x+` adds to the list `x`."""
    return [key for key in config if key.removesuffix("+") not in flags]
