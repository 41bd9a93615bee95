# An Android boot image per device tree of the board, beside the image's other files: boot-DEVICE-TREE.img.
# The board's file says where its boot loader puts the parts; INITRAMFS_IMAGE and CUMULET_COMMAND_LINE are the image's.

BOOTIMG_SECOND_OFFSET ?= "0x00f00000"
BOOTIMG_DTB_OFFSET ?= "0"
BOOTIMG_DEPLOYDIR = "${WORKDIR}/deploy-${PN}-bootimg"

python do_bootimg() {
    from pathlib import Path
    from cumulet_bsp import bootimg

    deploy = Path(d.getVar("DEPLOY_DIR_IMAGE"))
    number = lambda name: int(d.getVar("BOOTIMG_" + name), 0)
    layout = bootimg.Layout(
        base=number("BASE"),
        kernel=number("KERNEL_OFFSET"),
        ramdisk=number("RAMDISK_OFFSET"),
        tags=number("TAGS_OFFSET"),
        page=number("PAGE_SIZE"),
        version=number("HEADER_VERSION"),
        second=number("SECOND_OFFSET"),
        device_tree=number("DTB_OFFSET"),
    )
    ramdisk = deploy / d.expand("${INITRAMFS_IMAGE}-${MACHINE}.cpio.zst")
    for name in d.getVar("KERNEL_DEVICETREE").split():
        tree = deploy / os.path.basename(name)
        parts = bootimg.Parts(
            kernel=(deploy / d.getVar("KERNEL_IMAGETYPE")).read_bytes(),
            ramdisk=ramdisk.read_bytes(),
            device_tree=tree.read_bytes(),
            command_line=d.getVar("CUMULET_COMMAND_LINE") or "",
        )
        try:
            content = bootimg.make_boot_image(parts, layout)
        except ValueError as error:
            bb.fatal("%s: %s" % (name, error))
        target = Path(d.getVar("BOOTIMG_DEPLOYDIR"))
        (target / ("boot-%s.img" % tree.stem)).write_bytes(content)
}
do_bootimg[dirs] = "${BOOTIMG_DEPLOYDIR}"
do_bootimg[cleandirs] = "${BOOTIMG_DEPLOYDIR}"
do_bootimg[depends] += "virtual/kernel:do_deploy ${@'%s:do_image_complete' % d.getVar('INITRAMFS_IMAGE') if d.getVar('INITRAMFS_IMAGE') else ''}"
addtask bootimg after do_rootfs before do_build

SSTATETASKS += "do_bootimg"
do_bootimg[sstate-inputdirs] = "${BOOTIMG_DEPLOYDIR}"
do_bootimg[sstate-outputdirs] = "${DEPLOY_DIR_IMAGE}"

python do_bootimg_setscene() {
    sstate_setscene(d)
}
addtask do_bootimg_setscene

# Only an image with an initramfs boots; the initramfs itself is none.
python () {
    if not d.getVar("INITRAMFS_IMAGE"):
        bb.build.deltask("do_bootimg", d)
}
