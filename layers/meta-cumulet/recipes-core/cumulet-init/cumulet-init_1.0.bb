SUMMARY = "From the kernel to systemd: the root slot, and writable folders over it"
DESCRIPTION = "The one script of the initramfs: mounts the root slot read-only, repairs and mounts the data partition, \
and hands over."
HOMEPAGE = "https://cumulet.dev"
SECTION = "base"

CUMULET_ARCHIVE = "init.tar"

inherit cumulet_handover allarch

FILES:${PN} = "/init /dev /proc /run /sys /sysroot"

RDEPENDS:${PN} = "busybox"
# Its interpreter is known to the check by its path in /usr alone.
# nooelint: oelint.vars.insaneskip
INSANE_SKIP:${PN} = "file-rdeps"
