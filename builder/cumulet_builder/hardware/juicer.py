"""The stage `juicer`: what takes firmware from a phone's own partitions, once, into the data partition.

The maker's firmware may not be handed on, but the phone has it. droid-juicer copies it at the first boot; the kernel
looks for firmware in `updates` first, which leads to the data partition here, as the root cannot be written. Its
package wants tools that make an initramfs, which these images have no use for: it is opened, not installed.
"""

from __future__ import annotations

from collections.abc import Sequence

from cumulet_builder.copyrights import write_copyrights
from cumulet_builder.firmware import FirmwarePackage
from cumulet_builder.opened import load_package_tree
from cumulet_builder.plan import Stage, Workshop
from cumulet_builder.render import render
from cumulet_builder.tree import Tree, merge, write_tar

CODE = "2"
# Dynamic partitions, such as a Fairphone's `vendor`, are mapped with the second and its library.
PACKAGES = ("droid-juicer", "make-dynpart-mappings", "libdevmapper1.02.1")
PROGRAMS = ("/usr/bin/droid-juicer", "/usr/bin/make-dynpart-mappings")
KEPT = ("/usr/bin/", "/usr/lib/", "/usr/share/droid-juicer/")
NOT_KEPT = ("/usr/lib/systemd/system/droid-juicer.service", "/usr/lib/udev/")
CONFIGS = "/usr/share/droid-juicer/configs"
UNIT = "cumulet-firmware.service"
UPDATES = "/usr/lib/firmware/updates"
TARGET = "/data/firmware"


def make_stage(packages: Sequence[FirmwarePackage], compatibles: Sequence[str]) -> Stage:
    """The stage for a board that its device tree calls one of `compatibles`. It leaves `juicer.tar`."""

    def make(workshop: Workshop) -> None:
        tree = make_tree(merge([load_package_tree(package.deb) for package in packages]), compatibles)
        with (workshop.folder / "juicer.tar").open("wb") as stream:
            write_tar(tree, stream, workshop.epoch)
        write_copyrights([package.deb for package in packages], workshop.folder)

    inputs = {
        "code": CODE,
        "packages": "\n".join(f"{package.name} {package.sha256}" for package in packages),
        "compatibles": " ".join(compatibles),
    }
    return Stage("juicer", inputs, make, files=tuple(package.sha256 for package in packages))


def make_tree(packages: Tree, compatibles: Sequence[str]) -> Tree:
    """The layer: of the packages what runs and the settings of this board, and our unit around it."""
    wanted = {f"{CONFIGS}/{each}.toml" for each in compatibles}
    tree = Tree({path: node for path, node in packages.nodes.items() if _want(path, wanted)})
    # What its package does afterwards, making an initramfs and a boot image, has no place here.
    tree.file("/etc/droid-juicer/config.toml", "[postprocess]\ncommands = []\n")
    tree.link(UPDATES, TARGET)
    tree.file(
        f"/usr/lib/systemd/system/{UNIT}",
        render("system/cumulet-firmware.service.j2", compatibles=compatibles, target=TARGET),
    )
    tree.link(f"/usr/lib/systemd/system/multi-user.target.wants/{UNIT}", f"../{UNIT}")
    return tree


def _want(path: str, configs: set[str]) -> bool:
    if path.startswith(f"{CONFIGS}/"):
        return path in configs
    return path.startswith(KEPT) and not path.startswith(NOT_KEPT)
