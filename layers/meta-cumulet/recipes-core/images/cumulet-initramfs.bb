SUMMARY = "The initramfs of Cumulet's images: busybox and one script"
DESCRIPTION = "Everything that it mounts is built into the kernel: it loads no modules."
LICENSE = "Apache-2.0"

# A phone's disk lies inside a partition, which is opened with losetup; busybox's cannot set the size of sectors.
CUMULET_INITRAMFS_INSTALL ?= ""
PACKAGE_INSTALL = "cumulet-init busybox base-passwd ${CUMULET_INITRAMFS_INSTALL}"
IMAGE_FEATURES = ""
IMAGE_LINGUAS = ""
PACKAGE_EXCLUDE = "kernel-image-*"
IMAGE_FSTYPES = "cpio.zst"
IMAGE_NAME_SUFFIX = ""
# Not part of this image, and the other way round.
INITRAMFS_IMAGE = ""
KERNELDEPMODDEPEND = ""

inherit core-image

IMAGE_ROOTFS_SIZE = "8192"
IMAGE_ROOTFS_EXTRA_SPACE = "0"

COMPATIBLE_MACHINE = "^cumulet-board$"
