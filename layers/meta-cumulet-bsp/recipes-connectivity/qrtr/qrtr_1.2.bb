SUMMARY = "Name service and library of Qualcomm's IPC router"
DESCRIPTION = "How the processors inside a Qualcomm chip find each other's services: the modem's above all."
HOMEPAGE = "https://github.com/linux-msm/qrtr"
SECTION = "net"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=15329706fbfcb5fc5edcc1bc7c139da5"

SRC_URI = "git://github.com/linux-msm/qrtr.git;branch=master;protocol=https;tag=v${PV}"
SRCREV = "b51ffaf22707b6000ecfb894c5b750f3bb7843b2"

inherit meson pkgconfig
