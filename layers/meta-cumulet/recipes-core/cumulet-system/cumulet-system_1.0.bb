SUMMARY = "What makes a system a node of Cumulet: first boot, identity, ssh, quiet logs"
DESCRIPTION = "The units, scripts and settings that decide at every boot what a node is, make its name and keys, \
grow its data partition, and tell its console when it runs."
HOMEPAGE = "https://cumulet.dev"
SECTION = "base"

CUMULET_ARCHIVE = "system.tar"

inherit cumulet_handover allarch

FILES:${PN} = "${sysconfdir} ${nonarch_libdir} ${datadir} ${localstatedir} /data /boot"

# bash is the root shell of a second console, which only exists where QEMU asks for it.
RDEPENDS:${PN} = "bash"
