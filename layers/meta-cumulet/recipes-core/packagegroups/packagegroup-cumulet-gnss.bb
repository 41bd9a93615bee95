SUMMARY = "Satellite navigation: Beidou, GPS, Galileo, GLONASS"
DESCRIPTION = "gpsd and its clients, and chrony, which sets the clock from it."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    chrony \
    chronyc \
    gps-utils \
    gpsd \
    gpsd-machine-conf \
    pps-tools \
"
