"""Growing the data partition to the end of its disk: the files that an image carries for it.

The initramfs compares sizes and leaves a note in /run; without the note no
program runs. systemd-repart moves the second partition table and enlarges the
partition, systemd-growfs the mounted file system. A growing that was cut short
is found by /data/.growing and done again.
"""

from __future__ import annotations

from cumulet_builder.formats.layout import TYPE_DATA
from cumulet_builder.render import render
from cumulet_builder.tree import Tree

PACKAGES = ("systemd-repart",)
UNIT = "cumulet-grow.service"
DEFINITIONS = "/usr/lib/cumulet/repart.d"
# Mounted by the initramfs: systemd must not try to unmount what it stands on.
KEPT_MOUNTS = ("data", "etc", "var")


def make_growth_tree() -> Tree:
    """The layer: the unit, started once at boot, and the partition it enlarges."""
    tree = Tree()
    units = "/usr/lib/systemd/system"
    tree.file(f"{units}/{UNIT}", render("boot/cumulet-grow.service.j2", definitions=DEFINITIONS))
    tree.link(f"{units}/multi-user.target.wants/{UNIT}", f"../{UNIT}")
    tree.file(f"{DEFINITIONS}/data.conf", render("boot/data.repart.j2", kind=TYPE_DATA.lower()))
    # The package's own run over the disk would cost time at every boot and change nothing.
    tree.link("/etc/systemd/system/systemd-repart.service", "/dev/null")
    for name in KEPT_MOUNTS:
        tree.file(f"{units}/{name}.mount.d/cumulet.conf", render("boot/kept-mount.conf.j2"))
    return tree
