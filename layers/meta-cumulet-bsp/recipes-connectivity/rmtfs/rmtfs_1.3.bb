SUMMARY = "The file system that a Qualcomm modem keeps its state in"
DESCRIPTION = "Serves the modem's partitions to the modem, which does not come up without them."
HOMEPAGE = "https://github.com/linux-msm/rmtfs"
SECTION = "net"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=ca25dbf5ebfc1a058bfc657c895aac2f"

DEPENDS = "qmic-native qrtr udev"

SRC_URI = "git://github.com/linux-msm/rmtfs.git;branch=master;protocol=https;tag=v${PV}"
SRCREV = "b30a3eb38f9af283f18dbd3c7755653efc52c094"

inherit systemd

SYSTEMD_PACKAGES = "${PN} ${PN}-dir"
SYSTEMD_SERVICE:${PN} = "rmtfs.service"
SYSTEMD_SERVICE:${PN}-dir = "rmtfs-dir.service"

do_install() {
    oe_runmake install DESTDIR=${D} prefix=${prefix} servicedir=${systemd_system_unitdir}
}

PACKAGES =+ "${PN}-dir"

RDEPENDS:${PN} += "qrtr"
RDEPENDS:${PN}-dir += "${PN}"
