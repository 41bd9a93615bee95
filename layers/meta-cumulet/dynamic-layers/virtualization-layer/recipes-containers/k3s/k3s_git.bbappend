FILESEXTRAPATHS:prepend:cumulet := "${THISDIR}/k3s:"

# A node's units, settings and links come from cumulet-kubernetes; what is of no use on a phone stays out.
SRC_URI:append:cumulet = " file://plugins.conf file://layers.yaml"
PACKAGECONFIG:cumulet = ""
BIN_PREFIX:cumulet = "${exec_prefix}"
SYSTEMD_PACKAGES:cumulet = ""
VIRT_NETWORKING_FILES:cumulet = ""

do_install:append:cumulet() {
    rm -rf ${D}${systemd_system_unitdir} ${D}${sysconfdir}/rancher ${D}${localstatedir}/lib/rancher
    rm -f ${D}${bindir}/kubectl ${D}${bindir}/crictl ${D}${bindir}/k3s-agent ${D}${bindir}/k3s-role-setup.sh
    rm -f ${D}${bindir}/k3s-get-token
    for unit in k3s k3s-agent; do
        install -D -m 0644 ${UNPACKDIR}/plugins.conf ${D}${systemd_system_unitdir}/$unit.service.d/plugins.conf
    done
    # Read after the settings that a node is given, which cumulet-kubernetes writes on the device.
    for settings in config agent; do
        install -D -m 0644 ${UNPACKDIR}/layers.yaml ${D}${sysconfdir}/rancher/k3s/$settings.yaml.d/layers.yaml
    done
}

FILES:${PN}:append:cumulet = " ${systemd_system_unitdir} ${sysconfdir}/rancher"
