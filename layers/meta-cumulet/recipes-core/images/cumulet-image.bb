SUMMARY = "An image of Cumulet; the kas document says of what"
DESCRIPTION = "A node of an edge cloud. What is in it is decided by a recipe of cumulet, which hands it over in the \
variables CUMULET_*."
LICENSE = "Apache-2.0"

INITRAMFS_IMAGE = "cumulet-initramfs"

inherit cumulet_image

EFI_LOADER_ARCH = "${@'aa64' if d.getVar('TARGET_ARCH') == 'aarch64' else 'x64'}"
CUMULET_INITRAMFS = "${INITRAMFS_IMAGE}-${MACHINE}.cpio.zst"
# What lies on the EFI system partition, as the boot loader's entry names it.
IMAGE_BOOT_FILES = "\
    systemd-boot${EFI_LOADER_ARCH}.efi;EFI/BOOT/BOOT${@d.getVar('EFI_LOADER_ARCH').upper()}.EFI \
    cumulet-loader.conf;loader/loader.conf \
    cumulet-root-a.conf;loader/entries/root-a.conf \
    ${KERNEL_IMAGETYPE};root-a/vmlinuz \
    ${CUMULET_INITRAMFS};root-a/initrd.img \
    ${@' '.join('%s;root-a/dtbs/%s' % (name.rsplit('/', 1)[-1], name) for name in (d.getVar('KERNEL_DEVICETREE') or '').split())} \
"
do_image_wic[depends] += "systemd-boot:do_deploy cumulet-boot:do_deploy virtual/kernel:do_deploy ${INITRAMFS_IMAGE}:do_image_complete"

COMPATIBLE_MACHINE = "^cumulet-board$"
