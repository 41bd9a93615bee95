"""What every image has on top of its packages: first boot, node identity, ssh, quiet logs."""

from __future__ import annotations

from cumulet_builder.recipe.model import Recipe
from cumulet_builder.render import render
from cumulet_builder.tree import Tree

UNITS = "/usr/lib/systemd/system"
ETC_UNITS = "/etc/systemd/system"
# Of no use on a node without screen, seat, local users or package manager; each costs boot time.
MASKED = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty-static.service",
    "getty@tty1.service",
    "haproxy.service",
    "kmod-static-nodes.service",
    "ldconfig.service",
    "proc-sys-fs-binfmt_misc.automount",
    "proc-sys-fs-binfmt_misc.mount",
    "remote-fs.target",
    "run-lock.mount",
    "serial-getty@.service",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-ask-password-console.path",
    "systemd-ask-password-wall.path",
    "systemd-binfmt.service",
    "systemd-boot-update.service",
    "systemd-firstboot.service",
    "systemd-hibernate-clear.service",
    "systemd-hostnamed.socket",
    "systemd-hwdb-update.service",
    "systemd-journal-catalog-update.service",
    "systemd-journal-flush.service",
    "systemd-machine-id-commit.service",
    "systemd-networkd-persistent-storage.service",
    "systemd-networkd-wait-online.service",
    "systemd-pcrmachine.service",
    "systemd-pcrphase-initrd.service",
    "systemd-pcrphase-sysinit.service",
    "systemd-pcrphase.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-rfkill.socket",
    "systemd-sysusers.service",
    "systemd-tpm2-setup-early.service",
    "systemd-tpm2-setup.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-done.service",
    "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-user-sessions.service",
)
ENABLED = {
    "cumulet-node.service": "sysinit.target",
    "cumulet-running.service": "multi-user.target",
    "cumulet-console.service": "multi-user.target",
    "systemd-networkd.service": "multi-user.target",
}


def make_system_tree(recipe: Recipe, build: str) -> Tree:
    """The layer of our own units, scripts and settings. `build` names the lock it goes with."""
    tree = Tree()
    _add_units(tree, recipe)
    _add_identity(tree, recipe, build)
    _add_ssh(tree, recipe)
    for unit in sorted({*MASKED, *recipe.mask} - set(recipe.enable)):
        tree.link(f"{ETC_UNITS}/{unit}", "/dev/null")
    for unit in recipe.enable:
        tree.link(f"{ETC_UNITS}/multi-user.target.wants/{unit}", f"{UNITS}/{unit}")
    return tree


def _add_units(tree: Tree, recipe: Recipe) -> None:
    for name in ("cumulet-node.service", "cumulet-running.service", "cumulet-console.service"):
        tree.file(f"{UNITS}/{name}", render(f"system/{name}.j2"))
    for unit, target in ENABLED.items():
        tree.link(f"{ETC_UNITS}/{target}.wants/{unit}", f"{UNITS}/{unit}")
    tree.file("/usr/lib/cumulet/node-config", render("system/node-config.sh.j2", node=recipe.node), 0o755)
    tree.file("/usr/lib/cumulet/report-running", render("system/report-running.sh.j2"), 0o755)
    tree.file(f"{UNITS}/systemd-udev-trigger.service.d/cumulet.conf", render("system/udev-trigger.conf.j2"))
    tree.file("/usr/lib/systemd/journald.conf.d/cumulet.conf", render("system/journald.conf.j2"))
    tree.file("/usr/lib/systemd/system.conf.d/cumulet.conf", render("system/system.conf.j2"))
    tree.link(f"{ETC_UNITS}/default.target", f"{UNITS}/multi-user.target")


def _add_identity(tree: Tree, recipe: Recipe, build: str) -> None:
    tree.file("/etc/cumulet/node.yaml", render("system/node.yaml.j2", node=recipe.node))
    tree.file(
        "/usr/lib/os-release",
        render("system/os-release.j2", image=recipe.image, suite=recipe.suite, version=recipe.version, build=build),
    )
    # systemd-user-sessions is masked, so nobody would take the "booting up" note away again.
    tree.link("/etc/tmpfiles.d/systemd-nologin.conf", "/dev/null")
    # Empty, not missing: systemd then makes an id without calling it a first boot and enabling every unit.
    tree.file("/etc/machine-id", "", 0o444)
    tree.file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n")
    tree.file("/etc/fstab", "# Mounted by the initramfs: / (read-only), /data, /etc and /var over it.\n")
    for folder in ("/data", "/var/log", "/var/tmp", "/var/lib/cumulet", "/boot"):
        tree.folder(folder, 0o1777 if folder == "/var/tmp" else 0o755)
    if any(name.startswith("systemd-resolved") for name in recipe.base_packages):
        tree.link("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf")


def _add_ssh(tree: Tree, recipe: Recipe) -> None:
    if not recipe.ssh.enabled:
        tree.link(f"{ETC_UNITS}/ssh.service", "/dev/null")
        tree.link(f"{ETC_UNITS}/ssh.socket", "/dev/null")
        return
    keys = "".join(f"{key}\n" for key in recipe.ssh.authorized_keys)
    tree.file("/usr/share/cumulet/authorized_keys", keys)
    tree.file("/etc/ssh/sshd_config.d/10-cumulet.conf", render("system/sshd.conf.j2"))
    tree.file(f"{UNITS}/sshd-keygen.service.d/cumulet.conf", render("system/host-keys.conf.j2"))
