"""Which devices a device cannot start without: its suppliers in the device tree, and theirs, up to the processor.

The kernel waits for the same ones: a device is not probed before what its clocks, supplies, phys and so on come from.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from cumulet_builder.hardware.devicetree import DeviceTree, parents, words

# Property -> the property of the supplier that says how many numbers follow its phandle.
COUNTED = {
    "clocks": "#clock-cells",
    "interconnects": "#interconnect-cells",
    "iommus": "#iommu-cells",
    "mboxes": "#mbox-cells",
    "io-channels": "#io-channel-cells",
    "dmas": "#dma-cells",
    "power-domains": "#power-domain-cells",
    "hwlocks": "#hwlock-cells",
    "phys": "#phy-cells",
    "resets": "#reset-cells",
    "pwms": "#pwm-cells",
    "interrupts-extended": "#interrupt-cells",
}
PLAIN = ("interrupt-parent", "mmc-pwrseq", "qcom,ice", "nvmem-cells", "phy-handle")
PATTERNS = (
    (re.compile(r"pinctrl-\d+$"), ""),
    (re.compile(r".*-supply$"), ""),
    (re.compile(r"(.*-)?gpios?$"), "#gpio-cells"),
)
IGNORED = ("nr-gpios",)


@dataclass(frozen=True)
class Supplier:
    """A node that is needed: by which other one, and for which property (`parent`: it is the bus above)."""

    path: str
    user: str
    property: str


def find_suppliers(tree: DeviceTree, path: str) -> dict[str, Supplier]:
    """Every device that the device at `path` needs, itself left out, each with the first that asked for it."""
    handles = tree.phandles()
    found: dict[str, Supplier] = {}
    todo = [path]
    while todo:
        user = todo.pop()
        for supplier in _direct(tree, user, handles):
            if supplier.path not in (*found, path) and tree.enabled(supplier.path):
                found[supplier.path] = supplier
                todo.append(supplier.path)
    return found


def _direct(tree: DeviceTree, user: str, handles: dict[int, str]) -> Iterator[Supplier]:
    above = next((each for each in parents(user) if each != "/" and "compatible" in tree.nodes[each]), None)
    if above:
        yield Supplier(above, user, "parent")
    inherited = next((each for each in (user, *parents(user)) if "interrupt-parent" in tree.nodes[each]), None)
    if inherited and "interrupts" in tree.nodes[user]:
        yield from _named(tree, user, "interrupt-parent", tree.nodes[inherited]["interrupt-parent"], handles)
    for name, value in tree.nodes[user].items():
        if name != "interrupt-parent":
            yield from _named(tree, user, name, value, handles)
    # What stands in parts of the device that are no devices themselves belongs to it: its regulators, its ports.
    for below in _parts(tree, user):
        for name, value in tree.nodes[below].items():
            yield from _named(tree, user, name, value, handles)


def _parts(tree: DeviceTree, path: str) -> Iterator[str]:
    for below in tree.nodes:
        if below.startswith(f"{path}/"):
            middle = [below, *(each for each in parents(below) if each.startswith(f"{path}/"))]
            if not any("compatible" in tree.nodes[each] for each in middle):
                yield below


def _named(tree: DeviceTree, user: str, name: str, value: bytes, handles: dict[int, str]) -> Iterator[Supplier]:
    count = _counter(name)
    if count is None:
        return
    numbers, position = words(value), 0
    while position < len(numbers):
        target = handles.get(numbers[position])
        position += 1
        if target is None:
            continue
        if count:
            cells = words(tree.nodes[target].get(count, b"\0\0\0\0"))
            position += cells[0] if cells else 0
        device = _device_of(tree, target)
        if device and device != user:
            yield Supplier(device, user, name)


def _counter(name: str) -> str | None:
    """The property that counts what follows a phandle, "" if nothing does, None if there are no phandles."""
    if name in COUNTED:
        return COUNTED[name]
    if name in PLAIN:
        return ""
    if name in IGNORED:
        return None
    return next((count for pattern, count in PATTERNS if pattern.match(name)), None)


def _device_of(tree: DeviceTree, path: str) -> str | None:
    """The node itself or the nearest above it that is a device."""
    return next((each for each in (path, *parents(path)) if each != "/" and "compatible" in tree.nodes[each]), None)
