# U-Boot of these boards carries Trusted Firmware inside it.
CUMULET_BL31 = "${STAGING_DIR_HOST}/firmware/trusted-firmware-a/bl31"

DEPENDS:append:pinephone = " trusted-firmware-a"
EXTRA_OEMAKE:append:pinephone = " BL31=${CUMULET_BL31}.bin SCP=/dev/null"

DEPENDS:append:rockpro64 = " trusted-firmware-a"
EXTRA_OEMAKE:append:rockpro64 = " BL31=${CUMULET_BL31}.elf"
