SUMMARY = "The SDK of Cumulet on the device"
DESCRIPTION = "A control node needs no laptop: what runs a site is in the image."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "python3-cumulet"
