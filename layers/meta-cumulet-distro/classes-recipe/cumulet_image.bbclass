# An image of Cumulet: a trimmed root, read-only as erofs, for the first of two slots, and what is known about it.
#
# What an image is made of, cumulet says in the variables CUMULET_* of its kas document. Without it these defaults
# make a small image that boots.

inherit core-image

CUMULET_IMAGE ?= "${PN}"
IMAGE_BASENAME = "${CUMULET_IMAGE}"
CUMULET_INSTALL ?= ""
CUMULET_MODULES ?= ""
CUMULET_TRIM_DROP ?= ""
CUMULET_TRIM_KEEP ?= ""
CUMULET_EPOCH ?= "1767225600"
CUMULET_COMMAND_LINE ?= "root=PARTLABEL=root-a ro quiet panic=10"
# Of the disk: sizes in MiB, identifiers as cumulet's layout makes them from the image's name.
CUMULET_SIZE_ESP ?= "160"
CUMULET_SIZE_ROOT ?= "320"
CUMULET_SIZE_DATA ?= "640"
CUMULET_FAT_ID ?= "0x43554d55"
CUMULET_UUID_ESP ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0001"
CUMULET_UUID_ROOT ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0005"
CUMULET_UUID_ROOT_A ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0002"
CUMULET_UUID_ROOT_B ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0003"
CUMULET_UUID_DATA ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0004"
CUMULET_UUID_DATA_FS ?= "8a7a84a2-9e6a-5d0c-8a35-3b7b5c1c0006"
CUMULET_EROFS_OPTIONS ?= "-zlz4hc,level=5 -C65536 -Eztailpacking"

IMAGE_FEATURES = ""
IMAGE_INSTALL = "packagegroup-cumulet-base kernel-modules ${CUMULET_INSTALL}"
# The partition's size is the disk's business.
IMAGE_OVERHEAD_FACTOR = "1.0"
IMAGE_ROOTFS_EXTRA_SPACE = "0"
REPRODUCIBLE_TIMESTAMP_ROOTFS = "${CUMULET_EPOCH}"

# The root partition. An update writes the other slot; the initramfs puts writable folders over /etc and /var.
IMAGE_TYPES += "erofs-root"
IMAGE_CMD:erofs-root = "mkfs.erofs --quiet -T${CUMULET_EPOCH} -U ${CUMULET_UUID_ROOT} ${CUMULET_EROFS_OPTIONS} ${IMGDEPLOYDIR}/${IMAGE_NAME}.erofs-root ${IMAGE_ROOTFS}"
do_image_erofs_root[depends] += "erofs-utils-native:do_populate_sysroot"
IMAGE_TYPEDEP:wic = "erofs-root"
IMAGE_FSTYPES = "tar erofs-root wic"

WICVARS:append = "\
    CUMULET_SIZE_ESP CUMULET_SIZE_ROOT CUMULET_SIZE_DATA CUMULET_FAT_ID CUMULET_UUID_ESP CUMULET_UUID_ROOT_A \
    CUMULET_UUID_ROOT_B CUMULET_UUID_DATA CUMULET_UUID_DATA_FS \
"

# In this order: what lies over the packages, then what goes; when nothing changes any more, what is there.
ROOTFS_POSTPROCESS_COMMAND:append = " cumulet_lay_over cumulet_trim"
ROOTFS_POSTUNINSTALL_COMMAND:append = " cumulet_refuse_postinsts cumulet_write_facts"

# Files that packages own too, and the recipe's own files: the recipe has the last word.
cumulet_lay_over() {
    if [ -n "${CUMULET_HANDOVER}" ] && [ -e "${CUMULET_HANDOVER}/overlay.tar" ]; then
        tar -C ${IMAGE_ROOTFS} --no-same-owner --keep-directory-symlink -xpf ${CUMULET_HANDOVER}/overlay.tar
    fi
    printf 'IMAGE_ID=%s\nIMAGE_VERSION=1\n' "${CUMULET_IMAGE}" >> ${IMAGE_ROOTFS}${nonarch_libdir}/os-release
}

python cumulet_trim() {
    import subprocess
    from pathlib import Path
    from cumulet_image import trim

    root = Path(d.getVar("IMAGE_ROOTFS"))
    words = lambda name: (d.getVar(name) or "").split()
    trim.drop_paths(root, words("CUMULET_TRIM_DROP") + ["/boot/*"], words("CUMULET_TRIM_KEEP"))
    # Who needs whom is told by lists that otherwise are only made once the root is whole, and then are made anew.
    for folder in sorted((root / "usr/lib/modules").glob("*")):
        subprocess.check_call(["depmod", "-b", str(root / "usr"), folder.name])
    kept, unknown = trim.keep_modules(root, words("CUMULET_MODULES"))
    # Kernels move drivers about. What Kubernetes cannot do without, cumulet checks once the image is there.
    if unknown:
        bb.warn("kernel modules that this kernel has not: %s" % " ".join(unknown))
    bb.note("kernel modules that stay: %s" % " ".join(kept))
}

# A script that could not run here would want to write into a root that is read-only.
python cumulet_refuse_postinsts() {
    from pathlib import Path

    root = Path(d.getVar("IMAGE_ROOTFS"))
    left = [path.name for kind in ("ipk", "deb", "rpm") for path in (root / ("etc/%s-postinsts" % kind)).glob("*")]
    if left:
        bb.fatal("packages whose scripts can only run on the device: %s" % " ".join(sorted(left)))
}

python cumulet_write_facts() {
    from pathlib import Path
    from oe.packagedata import read_pkgdatafile
    from oe.rootfs import image_list_installed_packages
    from cumulet_image import facts

    pkgdata = Path(d.getVar("PKGDATA_DIR"), "runtime-reverse")
    rows = []
    for name, installed in sorted(image_list_installed_packages(d).items()):
        entry = pkgdata / name
        own = os.path.basename(os.readlink(entry)) if entry.is_symlink() else name
        rows.append(facts.make_package(own, installed, read_pkgdatafile(str(entry))))
    root = Path(d.getVar("IMAGE_ROOTFS"))
    releases = sorted(path.name for path in (root / "usr/lib/modules").glob("*"))
    kernel = {"recipe": d.getVar("PREFERRED_PROVIDER_virtual/kernel"), "release": releases[-1] if releases else ""}
    target = Path(d.getVar("IMGDEPLOYDIR"), d.getVar("IMAGE_NAME") + ".facts.json")
    target.write_text(facts.make_document(rows, kernel))
    link = Path(d.getVar("IMGDEPLOYDIR"), d.getVar("IMAGE_LINK_NAME") + ".facts.json")
    link.unlink(missing_ok=True)
    link.symlink_to(target.name)
}

do_rootfs[depends] += "kmod-native:do_populate_sysroot"
do_rootfs[file-checksums] += "${@'%s/overlay.tar:True' % d.getVar('CUMULET_HANDOVER') if d.getVar('CUMULET_HANDOVER') else ''}"
do_rootfs[vardeps] += "CUMULET_TRIM_DROP CUMULET_TRIM_KEEP CUMULET_MODULES CUMULET_EPOCH"
