SUMMARY = "Gives a Qualcomm modem the files that it asks for"
DESCRIPTION = "A TFTP server on Qualcomm's IPC router: firmware and configuration for the modem and the radio."
HOMEPAGE = "https://github.com/linux-msm/tqftpserv"
SECTION = "net"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=424e013ed97b36284f3b9ce27bb16a56"

DEPENDS = "qrtr zstd"

SRC_URI = "git://github.com/linux-msm/tqftpserv.git;branch=master;protocol=https;tag=v${PV}"
SRCREV = "b6bb92d40cfffe28621abcf7bfaa6d99beea46cb"

inherit meson pkgconfig systemd

EXTRA_OEMESON = "-Dsystemd-unit-prefix=${systemd_system_unitdir}"

SYSTEMD_SERVICE:${PN} = "tqftpserv.service"

RDEPENDS:${PN} += "qrtr"
