SUMMARY = "The SDK of Cumulet: what a node and its applications import"
DESCRIPTION = "The Python package cumulet, the very one that belongs to the cumulet that builds the image."
HOMEPAGE = "https://cumulet.dev"
SECTION = "devel/python"

CUMULET_ARCHIVE = "sdk.tar"

inherit python3-dir cumulet_handover allarch

# The archive has the package's files from their own folder on; where they go is this Python's business.
do_install() {
    install -d ${D}${PYTHON_SITEPACKAGES_DIR}
    cp -R --no-dereference --preserve=mode,links,timestamps ${UNPACKDIR}/handover/site/. ${D}${PYTHON_SITEPACKAGES_DIR}/
    install -D -m 0755 ${UNPACKDIR}/handover/cumulet ${D}${bindir}/cumulet
}

FILES:${PN} = "${bindir}/cumulet ${PYTHON_SITEPACKAGES_DIR}"

RDEPENDS:${PN} = "\
    python3-asyncssh \
    python3-click \
    python3-core \
    python3-cryptography \
    python3-h11 \
    python3-httpx \
    python3-jinja2 \
    python3-modules \
    python3-pydantic \
    python3-pyyaml \
    python3-rich \
"
