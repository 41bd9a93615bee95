SUMMARY = "SSH for Python's asyncio: client and server"
DESCRIPTION = "What the SDK of Cumulet speaks to the nodes of a site with. Later versions want a cryptography that \
openembedded-core has not."
HOMEPAGE = "https://asyncssh.timeheart.net"
SECTION = "devel/python"
LICENSE = "EPL-2.0 | GPL-2.0-or-later"
LIC_FILES_CHKSUM = "\
    file://COPYRIGHT;md5=a3d68919d4bc3d853512d45cbd1cc345 \
    file://LICENSE;md5=d9fc0efef5228704e7f5b37f27192723 \
"

SRC_URI[sha256sum] = "d9dc3bc0206f3e4b5d80d1c0e6a24af2b4ad4beb556884c41fb2ad1c7ca3f44f"

inherit pypi python_setuptools_build_meta

RDEPENDS:${PN} += "\
    python3-asyncio \
    python3-compression \
    python3-core \
    python3-crypt \
    python3-cryptography \
    python3-ctypes \
    python3-datetime \
    python3-fcntl \
    python3-io \
    python3-logging \
    python3-math \
    python3-netclient \
    python3-shell \
    python3-stringold \
    python3-terminal \
    python3-typing-extensions \
    python3-unixadmin \
"
