SUMMARY = "The images that k3s needs at once, so that a node starts without a network"
DESCRIPTION = "The airgap archive of a release of k3s. cumulet names it with the digest of its pin, or hands a file over."
HOMEPAGE = "https://k3s.io"
SECTION = "base"
LICENSE = "Apache-2.0"
LIC_FILES_CHKSUM = "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

# A URI, its SHA-256, and the file's name in the image: a part of the digest, then the release's own name, from
# which k3s tells how it is compressed.
CUMULET_K3S_IMAGES ??= ""
CUMULET_K3S_IMAGES_SHA256 ??= ""
CUMULET_K3S_IMAGES_NAME ??= ""
CUMULET_HANDOVER ??= ""

FILESEXTRAPATHS:prepend := "${CUMULET_HANDOVER}:"
SRC_URI = "${CUMULET_K3S_IMAGES};unpack=0;downloadfilename=${CUMULET_K3S_IMAGES_NAME}"
SRC_URI[sha256sum] = "${CUMULET_K3S_IMAGES_SHA256}"
S = "${UNPACKDIR}"

inherit allarch

INHIBIT_DEFAULT_DEPS = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    install -d ${D}${datadir}/cumulet/images
    archive=$(find ${UNPACKDIR} -name '${CUMULET_K3S_IMAGES_NAME}' | head -n 1)
    install -m 0644 "$archive" ${D}${datadir}/cumulet/images/${CUMULET_K3S_IMAGES_NAME}
}

FILES:${PN} = "${datadir}/cumulet/images"

python () {
    if not d.getVar("CUMULET_K3S_IMAGES"):
        raise bb.parse.SkipRecipe("CUMULET_K3S_IMAGES names no archive; a recipe of cumulet with k3s sets it")
}
