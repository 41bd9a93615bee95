"""Why something is in an image: from a file to its package, from a package or kernel module to whoever asked for it.

`load_image` reads what the last build left in the cache; everything else is pure.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from cumulet.core.documents import suggest
from cumulet.core.errors import UsageError
from cumulet_builder import initramfs, kubernetes
from cumulet_builder.build import load_last
from cumulet_builder.cache import open_cache
from cumulet_builder.firewall import PACKAGES as FIREWALL
from cumulet_builder.formats import growth, verity
from cumulet_builder.modules import ModuleIndex, make_index, match_modules, module_name
from cumulet_builder.ownership import Owner
from cumulet_builder.recipe.load import Resolved
from cumulet_builder.rootfs import load_owners, make_files_tree, make_settings_tree
from cumulet_builder.tree import Tree, follow, read_tar

STATUS = "/var/lib/dpkg/status"
FIRMWARE = "/usr/lib/firmware/"
Asked = Mapping[str, str]
"""A name or a glob -> who asked for it, in words."""


@dataclass(frozen=True)
class Package:
    """A package of the image: what it needs (each need is any of several), what it stands for."""

    name: str
    needs: tuple[tuple[str, ...], ...] = ()
    provides: tuple[str, ...] = ()
    essential: bool = False


@dataclass(frozen=True)
class Image:
    """What is known of a built image. `firmware`: module -> firmware files that it asks for."""

    name: str
    root: Tree
    owners: Mapping[str, Owner]
    packages: Mapping[str, Package]
    modules: ModuleIndex
    firmware: Mapping[str, Sequence[str]]
    asked_packages: Asked
    asked_modules: Asked
    asked_firmware: Asked
    by_device_tree: bool = False


def load_image(resolved: Resolved, cache_root: Path) -> Image:
    """The last build of a recipe. Raises UsageError if there is none in the cache."""
    recipe, cache = resolved.recipe, open_cache(cache_root)
    last = load_last(cache, recipe.image)
    stages = {name: cache.stage(name, key) for name, key in last.items() if cache.have_stage(name, key)}
    missing = [name for name in ("packages", "kernel", "root") if name not in stages]
    if missing:
        raise UsageError(f"{recipe.image}: no build of it in the cache", hint=f"cumulet build {recipe.image}")
    root, kernel = read_tar(stages["root"] / "root.tar"), read_tar(stages["kernel"] / "kernel.tar")
    base = f"/usr/lib/modules/{json.loads((stages['kernel'] / 'kernel.json').read_text())['version']}/"
    lists = {path.removeprefix(base): kernel.read(path) for path in kernel.nodes if path.startswith(f"{base}modules.")}
    configured = read_tar(stages["packages"] / "root.tar")
    status = configured.read(STATUS).decode(errors="replace") if STATUS in configured.nodes else ""
    wanted = stages["kernel"] / "firmware-wanted.json"
    return Image(
        name=recipe.image,
        root=root,
        owners=load_owners(root, stages, make_settings_tree(recipe, ""), make_files_tree(recipe)),
        packages=read_status(status),
        modules=make_index(lists),
        firmware=json.loads(wanted.read_text()) if wanted.is_file() else {},
        asked_packages=find_asked_packages(resolved),
        asked_modules=find_asked_modules(resolved),
        asked_firmware=find_written(resolved, [("firmware",)]),
        by_device_tree=recipe.board.kernel.device_tree_modules,
    )


def find_written(resolved: Resolved, keys: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Every word in lists at these keys, in any fragment of the recipe -> file and line."""
    found: dict[str, str] = {}
    for fragment in resolved.fragments:
        for key in keys:
            value = fragment.document.at(key)
            for item in value.items if value is not None else []:
                found.setdefault(str(item.content), f"asked for in {item.place.file}:{item.place.line}")
    return found


def find_asked_packages(resolved: Resolved) -> dict[str, str]:
    """Package -> who asked for it; only those that somebody asked for by name."""
    recipe = resolved.recipe
    asked = dict.fromkeys(growth.PACKAGES, "the first boot grows the data partition with it")
    asked |= dict.fromkeys(FIREWALL, "the firewall needs it") if recipe.firewall.enabled else {}
    asked |= dict.fromkeys(verity.PACKAGES, "disk.verity needs it") if recipe.disk.verity else {}
    if recipe.kubernetes is not None:
        words = f"{recipe.kubernetes.distribution} needs it"
        asked |= dict.fromkeys(kubernetes.needed_packages(recipe), words)
    if recipe.sdk or recipe.wheels:
        asked["python3"] = "the SDK needs it" if recipe.sdk else "the recipe's wheels need it"
    written = find_written(resolved, [("packages",), ("base_packages",), ("firmware_packages",)])
    return asked | {re.split("[=:]", name)[0]: place for name, place in written.items()}


def find_asked_modules(resolved: Resolved) -> dict[str, str]:
    """Module, or glob of modules -> who asked for it."""
    recipe = resolved.recipe
    asked = dict.fromkeys(initramfs.BASE_MODULES, "the initramfs mounts the root with it")
    asked |= dict.fromkeys(verity.MODULES, "disk.verity needs it") if recipe.disk.verity else {}
    if recipe.kubernetes is not None:
        words = f"{recipe.kubernetes.distribution} needs it"
        asked |= dict.fromkeys(kubernetes.needed_modules(recipe), words)
    keys = [("modules",), ("kernel", "modules"), ("kernel", "initramfs_modules")]
    return asked | find_written(resolved, keys)


def read_status(text: str) -> dict[str, Package]:
    """The packages in dpkg's status file."""
    packages: dict[str, Package] = {}
    for paragraph in text.split("\n\n"):
        fields = dict(re.findall(r"^([A-Za-z-]+): (.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        if "Package" not in fields:
            continue
        needs = [_names(fields.get(key, "")) for key in ("Pre-Depends", "Depends")]
        packages[fields["Package"]] = Package(
            fields["Package"],
            tuple(each for group in needs for each in group),
            tuple(name for group in _names(fields.get("Provides", "")) for name in group),
            fields.get("Essential") == "yes",
        )
    return packages


def _names(text: str) -> list[tuple[str, ...]]:
    """`a (>= 1) | b, c:any` as [(a, b), (c,)]."""
    groups = [group for group in text.replace("\n", " ").split(",") if group.strip()]
    return [tuple(re.split(r"[ (:\[]", name.strip())[0] for name in group.split("|")) for group in groups]


def explain(image: Image, thing: str) -> list[str]:
    """The lines that say why: the thing first, whoever asked for it last. Raises UsageError for what is not there."""
    if thing.startswith("/"):
        return explain_file(image, thing)
    if thing in image.packages:
        return explain_package(image, thing)
    name = module_name(thing)
    if name in image.modules.paths or name in image.modules.builtin:
        return explain_module(image, name)
    known = [*image.packages, *image.modules.paths]
    raise UsageError(
        f"{thing}: no package, kernel module or file of {image.name}",
        hint=suggest(thing, known) or "a file is named by its whole path, as /usr/bin/ssh",
    )


def explain_file(image: Image, path: str) -> list[str]:
    """Why a file is there."""
    links = {each: node.target for each, node in image.root.nodes.items() if node.kind == "link"}
    path = follow(path, links.get)
    node = image.root.nodes.get(path)
    if node is None:
        names = [each for each in image.root.nodes if each.rsplit("/", 1)[-1] == path.rsplit("/", 1)[-1]]
        raise UsageError(f"{path}: not in {image.name}", hint=names[0] if names else "trimmed, or never there")
    if node.kind == "folder":
        below = sorted({owner.name for each, owner in image.owners.items() if each.startswith(f"{path}/")})
        return [f"{path}: a folder with files of: {', '.join(below) or 'nobody'}"]
    owner = image.owners[path]
    if owner.kind == "package":
        made = " (made by its scripts)" if owner.made else ""
        return [f"{path}: package {owner.name}{made}", *_explain_owner(image, owner.name, path)]
    if owner.kind == "stage" and path.endswith(".ko"):
        return [f"{path}: kernel module {module_name(path)}", *explain_module(image, module_name(path))]
    words = {
        "settings": "a setting of Cumulet's own, as this recipe wants it",
        "recipe": "the recipe's own, from files:",
        "stage": f"made by the stage {owner.name}",
    }
    return [f"{path}: {words[owner.kind]}"]


def _explain_owner(image: Image, package: str, path: str) -> list[str]:
    if path.startswith(FIRMWARE):
        return explain_firmware(image, path.removeprefix(FIRMWARE))
    return explain_package(image, package) if package in image.packages else []


def explain_firmware(image: Image, name: str) -> list[str]:
    """Which module asks for a firmware file, and which words of the board let it in."""
    askers = [module for module, files in image.firmware.items() if name in files]
    lines = [f"  {name}: asked for by module {module}" for module in askers]
    lines += [f"  {glob}: {place}" for glob, place in image.asked_firmware.items() if fnmatchcase(name, glob)]
    return lines


def explain_package(image: Image, name: str) -> list[str]:
    """The shortest chain from a package that somebody asked for."""
    starts = {each: reason for each, reason in image.asked_packages.items() if each in image.packages}
    essential = {each: "every Debian system has it" for each, one in image.packages.items() if one.essential}
    providers: dict[str, list[str]] = {}
    for each in image.packages.values():
        for virtual in (each.name, *each.provides):
            providers.setdefault(virtual, []).append(each.name)

    def needs(package: str) -> list[str]:
        groups = image.packages[package].needs
        return [found for group in groups for word in group for found in providers.get(word, ())]

    return _write_chain(name, essential | starts, needs)


def explain_module(image: Image, name: str) -> list[str]:
    """The shortest chain from a module that somebody asked for."""
    index = image.modules
    if name in index.builtin:
        return [f"  {name}: built into the kernel"]
    starts = {
        module_name(path): reason
        for pattern, reason in image.asked_modules.items()
        for path in match_modules(pattern, index)
    }

    def needs(module: str) -> list[str]:
        paths = [*index.needs.get(index.paths[module], ())]
        words = (*index.first.get(module, ()), *index.after.get(module, ()))
        return [module_name(path) for path in (*paths, *(each for word in words for each in index.resolve(word)))]

    otherwise = "a part of the board's device tree asks for it" if image.by_device_tree else ""
    return _write_chain(name, starts, needs, otherwise)


def _write_chain(
    name: str, starts: Mapping[str, str], needs: Callable[[str], Iterable[str]], otherwise: str = ""
) -> list[str]:
    """`name` and what needs it, up to a start, nearest start first."""
    above: dict[str, str] = dict.fromkeys(starts, "")
    todo = deque(starts)
    while todo and name not in above:
        here = todo.popleft()
        for each in needs(here):
            if each not in above:
                above[each] = here
                todo.append(each)
    if name not in above:
        return [f"  {name}: {otherwise or 'nothing that was asked for needs it'}"]
    lines = []
    while above[name]:
        lines.append(f"  {name}: needed by {above[name]}")
        name = above[name]
    return [*lines, f"  {name}: {starts[name]}"]
