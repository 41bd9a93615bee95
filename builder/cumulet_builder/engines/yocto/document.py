"""The kas document of a recipe: which layers at which commits, which machine, and the image in variables. Pure.

It stands by itself: `kas build kas.yaml`, beside the archives of the handover, is what `cumulet build` runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from cumulet_builder import kubernetes
from cumulet_builder.engines.debian.artefacts import make_seed, make_words
from cumulet_builder.engines.yocto.machines import Machine
from cumulet_builder.engines.yocto.repositories import LayerLock
from cumulet_builder.formats.bootimg import ROOT_KEY
from cumulet_builder.formats.esp import make_command_line
from cumulet_builder.formats.layout import ALIGN, make_layout, make_uuid
from cumulet_builder.formats.root import OPTIONS
from cumulet_builder.recipe.model import Recipe, parse_size

VERSION = 19
TARGET = "cumulet-image"
LAYERS = ("meta-cumulet-bsp", "meta-cumulet-distro", "meta-cumulet")
# Relative to the build folder, which kas makes beside the document.
HANDOVER = "${TOPDIR}/../handover"
# What the recipe's own words mean in packages, and the fragments of recipes/kas that bring them.
K3S_PACKAGES, K3S_LAYERS = ("packagegroup-cumulet-k3s",), ("virtualization",)
SDK_PACKAGES = ("packagegroup-cumulet-sdk",)
ROOT_KEYS = {"phone": ROOT_KEY}
BOOT_LAYERS = {"uboot": ("arm",)}


@dataclass(frozen=True)
class Images:
    """The archive of Kubernetes' images: where bitbake gets it, its SHA-256, its name in the image."""

    uri: str
    sha256: str
    name: str


@dataclass(frozen=True)
class Setting:
    """Everything that a document is made of, beside its recipe. `layers` is the folder of our layers."""

    machine: Machine
    lock: LayerLock
    layers: Path
    images: Images | None = None


def needed_layers(recipe: Recipe, machine: Machine) -> tuple[str, ...]:
    """The fragments of recipes/kas that a recipe needs."""
    wanted = [*BOOT_LAYERS.get(machine.boot, ()), *(K3S_LAYERS if recipe.kubernetes else ()), *recipe.yocto.layers]
    return tuple(dict.fromkeys(wanted))


def make_document(recipe: Recipe, setting: Setting) -> dict[str, Any]:
    """The document as plain data."""
    return {
        "header": {"version": VERSION},
        "machine": setting.machine.name,
        "distro": "cumulet",
        "target": TARGET,
        "repos": make_repos(setting),
        "local_conf_header": {"cumulet": make_assignments(make_variables(recipe, setting))},
    }


def make_text(document: Mapping[str, Any], about: str = "") -> str:
    """The document as YAML, keys in the order in which they were given; `about` is a comment above it."""
    text = yaml.dump(dict(document), Dumper=_Dumper, sort_keys=False, width=120, default_flow_style=False)
    return "".join(f"# {line}\n" for line in about.splitlines()) + text


def make_repos(setting: Setting) -> dict[str, Any]:
    """The repositories: ours by its folder, the others at their commits."""
    repos: dict[str, Any] = {"cumulet": {"path": str(setting.layers), "layers": dict.fromkeys(LAYERS)}}
    for each in setting.lock.repositories:
        repos[each.name] = {"url": each.url, "branch": each.branch, "commit": each.commit}
        if each.layers:
            repos[each.name]["layers"] = dict(each.layers)
    return repos


def make_variables(recipe: Recipe, setting: Setting) -> dict[str, str]:
    """The variables CUMULET_*, in which the classes and recipes of our layers are told what to build."""
    words = make_words(recipe)
    return {
        "CUMULET_IMAGE": recipe.image,
        "CUMULET_HANDOVER": HANDOVER,
        "CUMULET_EPOCH": str(setting.lock.epoch),
        "CUMULET_INSTALL": " ".join(make_packages(recipe)),
        "CUMULET_MODULES": " ".join(make_modules(recipe)),
        "CUMULET_TRIM_DROP": " ".join(recipe.trim.drop),
        "CUMULET_TRIM_KEEP": " ".join(recipe.trim.keep),
        "CUMULET_COMMAND_LINE": make_command_line(words, "root-a", ROOT_KEYS.get(setting.machine.boot, "root")),
        **make_disk_variables(recipe),
        **make_images_variables(setting.images),
    }


def make_packages(recipe: Recipe) -> tuple[str, ...]:
    """What is installed, in the order of the recipe, without duplicates."""
    wanted = [
        *recipe.yocto.packages,
        *(K3S_PACKAGES if recipe.kubernetes else ()),
        *(SDK_PACKAGES if recipe.sdk else ()),
    ]
    return tuple(dict.fromkeys(wanted))


def make_modules(recipe: Recipe) -> tuple[str, ...]:
    """Kernel modules that stay, as names or globs. What the initramfs needs is built into our kernels."""
    return tuple(dict.fromkeys([*recipe.board.kernel.modules, *recipe.modules, *kubernetes.needed_modules(recipe)]))


def make_disk_variables(recipe: Recipe) -> dict[str, str]:
    """Sizes and identifiers of the disk: those that the Debian engine would write."""
    seed = make_seed(recipe)
    layout = make_layout(recipe.disk, recipe.board.architecture, seed)
    uuids = {name: layout.partition(name).identifier.lower() for name in ("esp", "root-a", "root-b", "data")}
    sizes = {name: str(-(-parse_size(text) // ALIGN)) for name, text in _sizes(recipe).items()}
    return {
        **{f"CUMULET_SIZE_{name.upper()}": size for name, size in sizes.items()},
        "CUMULET_FAT_ID": "0x" + make_uuid(seed, "esp").replace("-", "")[:8],
        **{f"CUMULET_UUID_{name.upper().replace('-', '_')}": uuid for name, uuid in uuids.items()},
        "CUMULET_UUID_ROOT": make_uuid(seed, "root"),
        "CUMULET_UUID_DATA_FS": make_uuid(seed, "data"),
        "CUMULET_EROFS_OPTIONS": " ".join(OPTIONS[recipe.disk.compression]),
    }


def _sizes(recipe: Recipe) -> dict[str, str]:
    return {"esp": recipe.disk.esp, "root": recipe.disk.root, "data": recipe.disk.data}


def make_images_variables(images: Images | None) -> dict[str, str]:
    """Where the images of Kubernetes come from."""
    if images is None:
        return {}
    return {
        "CUMULET_K3S_IMAGES": images.uri,
        "CUMULET_K3S_IMAGES_SHA256": images.sha256,
        "CUMULET_K3S_IMAGES_NAME": images.name,
    }


def make_assignments(variables: Mapping[str, str]) -> str:
    """Lines of bitbake's configuration; long lists have a line for each word."""
    return "".join(f"{name} = {_quote(value)}\n" for name, value in variables.items())


def _quote(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    words: Sequence[str] = escaped.split(" ")
    if len(escaped) <= 100 or len(words) < 4:
        return f'"{escaped}"'
    return '"\\\n' + "".join(f"    {word} \\\n" for word in words) + '"'


class _Dumper(yaml.SafeDumper):
    """YAML's safe dumper, with texts of several lines as blocks and nothing for null."""


def _write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def _write_nothing(dumper: yaml.SafeDumper, _: None) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:null", "")


_Dumper.add_representer(str, _write_text)
_Dumper.add_representer(type(None), _write_nothing)
