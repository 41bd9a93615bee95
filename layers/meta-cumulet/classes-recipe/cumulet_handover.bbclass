# Recipes whose source cumulet writes when it makes a kas document: `cumulet kas RECIPE --to FOLDER`. The files are those
# that its Debian engine lays over Debian's packages, so that both engines' nodes behave alike; they come as archives,
# whose digests cover permissions and links too. Without CUMULET_HANDOVER such a recipe is skipped.

CUMULET_HANDOVER ??= ""
CUMULET_ARCHIVE ?= ""

LICENSE ?= "Apache-2.0"
LIC_FILES_CHKSUM ?= "file://${COMMON_LICENSE_DIR}/Apache-2.0;md5=89aea4e17d99a7cacdbeed46a0096b10"

FILESEXTRAPATHS:prepend := "${CUMULET_HANDOVER}:"
SRC_URI = "file://${CUMULET_ARCHIVE};subdir=handover"
S = "${UNPACKDIR}"

# Text and links: nothing is compiled, and no tool chain is waited for.
INHIBIT_DEFAULT_DEPS = "1"
do_configure[noexec] = "1"
do_compile[noexec] = "1"

do_install() {
    cp -R --no-dereference --preserve=mode,links,timestamps ${UNPACKDIR}/handover/. ${D}/
}

python () {
    if not d.getVar("CUMULET_HANDOVER"):
        raise bb.parse.SkipRecipe("CUMULET_HANDOVER names no folder; cumulet kas RECIPE --to FOLDER writes one")
}
