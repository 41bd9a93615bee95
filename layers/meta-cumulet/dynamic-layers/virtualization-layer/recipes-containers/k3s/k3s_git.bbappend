# A node's units, settings and links come from cumulet-kubernetes; what is of no use on a phone stays out.
PACKAGECONFIG:cumulet = ""
BIN_PREFIX:cumulet = "${exec_prefix}"
SYSTEMD_PACKAGES:cumulet = ""
VIRT_NETWORKING_FILES:cumulet = ""

do_install:append:cumulet() {
    rm -rf ${D}${systemd_system_unitdir} ${D}${sysconfdir}/rancher ${D}${localstatedir}/lib/rancher
    rm -f ${D}${bindir}/kubectl ${D}${bindir}/crictl ${D}${bindir}/k3s-agent ${D}${bindir}/k3s-role-setup.sh
    rm -f ${D}${bindir}/k3s-get-token
}
