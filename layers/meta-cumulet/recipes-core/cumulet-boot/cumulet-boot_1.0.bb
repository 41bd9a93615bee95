SUMMARY = "Settings of the boot loader: one entry per root slot"
DESCRIPTION = "What lies on the EFI system partition beside kernel and initramfs."
HOMEPAGE = "https://cumulet.dev"
SECTION = "bsp"

CUMULET_ARCHIVE = "boot.tar"

inherit cumulet_handover deploy nopackages linux-kernel-base

PACKAGE_ARCH = "${MACHINE_ARCH}"

do_install[noexec] = "1"

# An update's entry is sorted before the old one's by the version of its kernel.
do_deploy() {
    install -d ${DEPLOYDIR}
    version=$(cat ${STAGING_KERNEL_BUILDDIR}/kernel-abiversion)
    sed "s/@KERNEL@/$version/" ${UNPACKDIR}/handover/root-a.conf > ${DEPLOYDIR}/cumulet-root-a.conf
    install -m 0644 ${UNPACKDIR}/handover/loader.conf ${DEPLOYDIR}/cumulet-loader.conf
}
do_deploy[depends] += "virtual/kernel:do_shared_workdir"
addtask deploy after do_unpack before do_build
