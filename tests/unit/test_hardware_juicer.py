"""What takes firmware from a phone's own partitions: of its packages only what runs, and a unit around it."""

from __future__ import annotations

from cumulet_builder.hardware.juicer import make_tree
from cumulet_builder.tree import Tree


def test_the_layer_has_the_programs_and_the_settings_of_this_board_alone() -> None:
    packages = Tree()
    for path in (
        "/usr/bin/droid-juicer",
        "/usr/lib/systemd/system/droid-juicer.service",
        "/usr/lib/systemd/system/make-dynpart-mappings@.service",
        "/usr/lib/aarch64-linux-gnu/libdevmapper.so.1.02.1",
        "/usr/lib/udev/rules.d/60-x.rules",
        "/usr/share/droid-juicer/configs/acme,phone.toml",
        "/usr/share/droid-juicer/configs/acme,other.toml",
        "/usr/share/doc/droid-juicer/changelog.gz",
        "/etc/droid-juicer/config.toml",
    ):
        packages.file(path, "the package's own")
    tree = make_tree(packages, ["acme,phone"])
    assert sorted(tree.nodes) == [
        "/etc/droid-juicer/config.toml",
        "/usr/bin/droid-juicer",
        "/usr/lib/aarch64-linux-gnu/libdevmapper.so.1.02.1",
        "/usr/lib/firmware/updates",
        "/usr/lib/systemd/system/cumulet-firmware.service",
        "/usr/lib/systemd/system/make-dynpart-mappings@.service",
        "/usr/lib/systemd/system/multi-user.target.wants/cumulet-firmware.service",
        "/usr/share/droid-juicer/configs/acme,phone.toml",
    ]
    # Nothing is made of it afterwards: no initramfs, no boot image.
    assert tree.read("/etc/droid-juicer/config.toml") == b"[postprocess]\ncommands = []\n"
    assert tree.nodes["/usr/lib/firmware/updates"].target == "/data/firmware"


def test_it_runs_once_and_on_this_board_only() -> None:
    text = make_tree(Tree(), ["acme,phone"]).read("/usr/lib/systemd/system/cumulet-firmware.service").decode()
    assert "ConditionFirmware=|device-tree-compatible(acme,phone)\n" in text
    assert "ConditionPathExists=!/var/lib/droid-juicer/status.json\n" in text
    # The modem's partition has a file system that nothing else needs.
    assert "ExecStartPre=/usr/sbin/modprobe vfat\n" in text
    assert text.index("modprobe") < text.index("ExecStart=/usr/bin/droid-juicer")
