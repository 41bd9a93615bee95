# U-Boot of these boards carries Trusted Firmware inside it.
DEPENDS:append:pinephone = " trusted-firmware-a"
EXTRA_OEMAKE:append:pinephone = " BL31=${STAGING_DIR_HOST}/firmware/trusted-firmware-a/bl31.bin SCP=/dev/null"

DEPENDS:append:rockpro64 = " trusted-firmware-a"
EXTRA_OEMAKE:append:rockpro64 = " BL31=${STAGING_DIR_HOST}/firmware/trusted-firmware-a/bl31.elf"
