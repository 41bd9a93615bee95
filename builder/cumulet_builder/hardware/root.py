"""Whether an initramfs can reach the root: it holds every module on the way to the storage and its file systems."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cumulet_builder.hardware.devicetree import DeviceTree
from cumulet_builder.hardware.drivers import DriverIndex, cells_of, find_reason
from cumulet_builder.hardware.suppliers import Supplier, find_suppliers
from cumulet_builder.recipe.board import Without

# A controller's driver -> what makes disks of what it finds.
DISKS = (("scsi_mod", "sd_mod"), ("mmc_core", "mmc_block"))


@dataclass(frozen=True)
class Need:
    """A module that the way to the root needs, the device it drives, and what that is for."""

    module: str
    device: str
    purpose: str


@dataclass(frozen=True)
class Ground:
    """What the needs of a root are found from. `chains`: module -> it and all that it uses itself."""

    index: DriverIndex
    chains: Mapping[str, Collection[str]]
    without: Sequence[Without]


def find_controllers(tree: DeviceTree, compatibles: Sequence[str]) -> list[str]:
    """The enabled nodes that the root may be on."""
    return [path for path, own in tree.devices() if set(own) & set(compatibles)]


def find_needs(tree: DeviceTree, controllers: Sequence[str], ground: Ground) -> Iterator[Need]:
    """Every module on the way to the controllers, each with a reason."""
    for controller in controllers:
        yield from _drivers(tree, controller, f"the storage {controller}", ground)
        suppliers = find_suppliers(tree, controller)
        for path, supplier in suppliers.items():
            yield from _drivers(tree, path, describe_chain(supplier, suppliers), ground)
        own = {name for each in _modules(tree, controller, ground) for name in ground.chains.get(each, ())}
        for host, disk in DISKS:
            if host in own and disk in ground.index.known:
                yield Need(disk, controller, f"disks of the storage {controller}")


def describe_chain(supplier: Supplier, suppliers: Mapping[str, Supplier]) -> str:
    """`vcc-supply of /soc/ufs`: what a device is needed for, and what that is needed for."""
    words: list[str] = []
    here: Supplier | None = supplier
    while here is not None and len(words) < 3:
        words.append(f"{here.property} of {here.user}")
        here = suppliers.get(here.user)
    return ", ".join(words)


def _drivers(tree: DeviceTree, path: str, purpose: str, ground: Ground) -> Iterator[Need]:
    for name in _modules(tree, path, ground):
        yield Need(name, path, purpose)


def _modules(tree: DeviceTree, path: str, ground: Ground) -> dict[str, None]:
    compatibles = tree.compatibles(path)
    if find_reason(compatibles, ground.without) is not None:
        return {}
    found: dict[str, None] = {}
    for each in compatibles:
        found |= dict.fromkeys(ground.index.modules.get(each, ()))
    return found | dict.fromkeys(cells_of(compatibles, ground.index))
