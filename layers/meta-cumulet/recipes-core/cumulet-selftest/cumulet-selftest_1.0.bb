SUMMARY = "A node's own test: what was built in is there and works"
DESCRIPTION = "Prints one line per promise of the image, in the Test Anything Protocol, and ends with 0 if all are kept."
HOMEPAGE = "https://cumulet.dev"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

SRC_URI = "file://cumulet-selftest"
S = "${UNPACKDIR}"

inherit allarch

INHIBIT_DEFAULT_DEPS = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${bindir}
    install -m 0755 ${UNPACKDIR}/cumulet-selftest ${D}${bindir}/cumulet-selftest
}
