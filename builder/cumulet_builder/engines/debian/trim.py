"""What stays out of a root file system: rules over paths, each with its reason.

Two moments: files nobody needs are not even unpacked; what only the build needed
(package manager, caches, scripts) goes when the root partition is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cumulet_builder.recipe.model import Trim


DOCUMENTATION = (
    "/usr/share/doc/",
    "/usr/share/man/",
    "/usr/share/info/",
    "/usr/share/lintian/",
    "/usr/share/doc-base/",
    "/usr/share/linda/",
    "/usr/share/bug/",
    "/usr/share/bash-completion/",
    "/usr/share/zsh/",
    "/usr/share/fish/",
)
LOCALES = ("/usr/share/locale/", "/usr/share/i18n/", "/usr/lib/locale/")
# The licence of every package stays readable on the device.
LEGAL = "/usr/share/doc/*/copyright"
KEPT_LOCALE = "/usr/lib/locale/C.utf8/"

# Left by configuring: random, dated, or of this computer.
REMAINS = (
    "/dev/*",
    "/proc/*",
    "/run/*",
    "/sys/*",
    "/tmp/*",
    "/boot/*",
    "/etc/.pwd.lock",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/subgid-",
    "/etc/subuid-",
    "/etc/machine-id",
    "/etc/mailname",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/ssh/ssh_host_*",
    "/var/cache/*/*",
    "/var/lib/apt/lists/*",
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/*-old",
    "/var/lib/dpkg/lock*",
    "/var/lib/dpkg/triggers/Lock",
    "/var/lib/dpkg/updates/*",
    "/var/lib/systemd/*/*",
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/log/*",
    "/root/.*",
)
PACKAGE_MANAGER = (
    "/usr/bin/apt*",
    "/usr/bin/dpkg*",
    "/usr/bin/debconf*",
    "/usr/bin/deb-system*",
    "/usr/bin/ucf*",
    "/usr/bin/lcf",
    "/usr/bin/update-alternatives",
    "/usr/sbin/dpkg*",
    "/usr/sbin/update-rc.d",
    "/usr/sbin/invoke-rc.d",
    "/usr/sbin/service",
    "/usr/sbin/policy-rc.d",
    "/usr/lib/apt",
    "/usr/lib/dpkg",
    "/usr/libexec/dpkg",
    "/usr/lib/*/libapt-*",
    "/usr/share/dpkg",
    "/usr/share/debconf",
    "/usr/share/perl5/Deb*",
    "/usr/share/perl5/Dpkg*",
    "/usr/share/ucf",
    "/etc/apt",
    "/etc/dpkg",
    "/etc/debconf.conf",
    "/etc/ucf.conf",
    "/etc/cron.daily",
    "/etc/cron.weekly",
    "/etc/logrotate.d",
    "/etc/kernel",
    "/etc/init.d",
    "/etc/rc?.d",
    "/usr/lib/systemd/system/apt-*",
    "/usr/lib/systemd/system/dpkg-*",
    "/etc/systemd/system/timers.target.wants/apt-*",
    "/etc/systemd/system/timers.target.wants/dpkg-*",
    "/var/lib/dpkg/info",
    "/var/lib/dpkg/alternatives",
    "/var/lib/dpkg/triggers",
    "/var/lib/dpkg/parts",
    "/var/lib/apt",
    "/var/lib/pam",
    "/var/lib/ucf*",
    "/var/cache",
    "/usr/sbin/pam-auth-update",
    "/usr/share/pam",
    "/usr/share/pam-configs",
    "/usr/sbin/adduser",
    "/usr/sbin/deluser",
    "/usr/share/adduser",
    "/usr/share/base-passwd",
    "/usr/share/base-files",
    "/usr/share/initramfs-tools",
    "/etc/initramfs-tools",
    "/usr/share/menu",
    "/usr/share/pixmaps",
    "/usr/share/applications",
)
PERL = (
    "/usr/bin/perl*",
    "/usr/lib/*/perl-base",
    "/usr/share/perl5",
    "/usr/bin/deb-systemd-helper",
    "/usr/bin/deb-systemd-invoke",
)
NEVER_USED = (
    "/usr/lib/python3*/test",
    "/usr/lib/python3*/idlelib",
    "/usr/lib/python3*/tkinter",
    "/usr/lib/python3*/turtledemo",
    "/usr/lib/python3*/pydoc_data",
    "/usr/lib/python3*/ensurepip",
    "/usr/lib/python3*/lib2to3",
    "/usr/lib/python3*/config-*",
    "/usr/share/gcc",
    "/usr/share/gdb",
    "/usr/include",
    "/usr/lib/*.a",
    "/usr/lib/*/*.a",
    "/usr/lib/*/pkgconfig",
    "/usr/share/pkgconfig",
    "/usr/share/common-licenses/GFDL*",
    "/usr/lib/*/gconv",
    "/usr/share/zoneinfo/right",
    "/usr/share/zoneinfo/posix",
    "/usr/share/python3/runtime.d",
    "/usr/share/python3/debpython",
    "/usr/lib/udev/hwdb.d",
    "/usr/lib/udev/hwdb.bin",
    "/etc/udev/hwdb.bin",
    "/usr/share/polkit-1",
    "/usr/share/dbus-1/interfaces",
    "/usr/share/bash-completion",
    "/usr/lib/systemd/catalog",
    "/usr/lib/kernel",
    # Each is a process before anything else starts, and finds nothing: no fstab, no sysv scripts, no terminal.
    "/usr/lib/systemd/system-generators/systemd-fstab-generator",
    "/usr/lib/systemd/system-generators/systemd-getty-generator",
    "/usr/lib/systemd/system-generators/systemd-gpt-auto-generator",
    "/usr/lib/systemd/system-generators/systemd-hibernate-resume-generator",
    "/usr/lib/systemd/system-generators/systemd-rc-local-generator",
    "/usr/lib/systemd/system-generators/systemd-ssh-generator",
    "/usr/lib/systemd/system-generators/systemd-system-update-generator",
    "/usr/lib/systemd/system-generators/systemd-sysv-generator",
    "/usr/lib/systemd/system-generators/systemd-tpm2-generator",
    "/usr/lib/tmpfiles.d/20-systemd-ssh-generator.conf",
    "/usr/lib/tmpfiles.d/provision.conf",
    "/usr/lib/tmpfiles.d/x11.conf",
    "/etc/modules-load.d/modules.conf",
    "/usr/lib/terminfo",
    "/usr/share/tabset",
    "/usr/games",
    "/usr/local/games",
)


def want_unpacked(path: str, *, documentation: bool, locales: bool) -> bool:
    """Whether a path of a package is unpacked at all; the switches say what to leave out."""
    refused = (DOCUMENTATION if documentation else ()) + (LOCALES if locales else ())
    if not path.startswith(refused):
        return True
    return fnmatchcase(path, LEGAL) or path.startswith(KEPT_LOCALE)


def want_packed(path: str) -> bool:
    """Whether a path is part of the assembled root: all but what configuring left behind."""
    return not _matches(path, REMAINS)


def want_kept(trim: Trim, path: str) -> bool:
    """Whether the recipe keeps a path in spite of every rule, also below a folder that is dropped."""
    return _matches(path, trim.keep)


def want_shipped(trim: Trim) -> Callable[[str], bool]:
    """Whether a path goes into the root partition."""
    drop: tuple[str, ...] = (*NEVER_USED, *trim.drop)
    if trim.package_manager:
        drop = (*drop, *PACKAGE_MANAGER, *PERL)
    rules = _compile(drop)
    return lambda path: want_kept(trim, path) or not rules(path)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(path, pattern) for pattern in patterns)


def _compile(patterns: Iterable[str]) -> Callable[[str], bool]:
    plain = {pattern for pattern in patterns if not set(pattern) & set("*?[")}
    globs = [pattern for pattern in patterns if pattern not in plain]
    return lambda path: path in plain or _matches(path, globs)
