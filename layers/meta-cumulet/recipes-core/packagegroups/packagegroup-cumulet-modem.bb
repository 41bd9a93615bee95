SUMMARY = "Modems: 5G, 4G"
DESCRIPTION = "ModemManager with the protocols of Qualcomm's and all other modems, NetworkManager for their connections, \
and what the SDK speaks to both with."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    libmbim \
    libqmi \
    modemmanager \
    networkmanager-nmcli \
    networkmanager-ppp \
    networkmanager-wwan \
    python3-dbus-fast \
    usb-modeswitch \
"
