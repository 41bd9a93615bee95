SUMMARY = "Modems: 5G, 4G"
DESCRIPTION = "ModemManager with the protocols of Qualcomm's and all other modems, and their command-line tools."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    libmbim \
    libqmi \
    modemmanager \
    usb-modeswitch \
"
