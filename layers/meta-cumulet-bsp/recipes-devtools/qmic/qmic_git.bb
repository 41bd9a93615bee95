SUMMARY = "Compiler of Qualcomm's QMI message descriptions"
DESCRIPTION = "Makes C code of QMI descriptions; rmtfs is built with it."
HOMEPAGE = "https://github.com/linux-msm/qmic"
SECTION = "devel"
LICENSE = "BSD-3-Clause"
LIC_FILES_CHKSUM = "file://LICENSE;md5=ca25dbf5ebfc1a058bfc657c895aac2f"

PV = "0.1+git"
SRC_URI = "git://github.com/linux-msm/qmic.git;branch=master;protocol=https"
SRCREV = "815dd495eb087b3b3ea02a8ed43716efac43db1c"

do_install() {
    oe_runmake install DESTDIR=${D} prefix=${prefix}
}

BBCLASSEXTEND = "native"
