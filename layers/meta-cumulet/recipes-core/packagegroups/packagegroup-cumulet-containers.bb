SUMMARY = "Tools for containers"
DESCRIPTION = "The feature containers of Cumulet's recipes: what sets networks and their rules up."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    conntrack-tools \
    ipset \
    iptables \
    iptables-modules \
    nftables \
"
