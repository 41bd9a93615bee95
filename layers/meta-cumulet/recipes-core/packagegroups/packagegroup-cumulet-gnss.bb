SUMMARY = "Satellite navigation: Beidou, GPS, Galileo, GLONASS"
DESCRIPTION = "gpsd and its clients, and the clock that it disciplines."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    gps-utils \
    gpsd \
    gpsd-machine-conf \
    pps-tools \
"
