# Every folder of this list is part of the kernel for whoever has it in the list: other machines have not.
FILESEXTRAPATHS:prepend:cumulet-board := "${THISDIR}/linux-yocto:"

COMPATIBLE_MACHINE:cumulet-board = "^cumulet-board$"
KBRANCH:cumulet-board = "v6.18/standard/base"
# Boards start from arm64's own defaults, which the fragments then change.
KBUILD_DEFCONFIG:cumulet-board = "defconfig"
KCONFIG_MODE:cumulet-board = "--alldefconfig"

def cumulet_fragments(d):
    names = (d.getVar("CUMULET_KERNEL_FRAGMENTS") or "") + " " + (d.getVar("CUMULET_BOARD_FRAGMENTS") or "")
    return " ".join("file://%s.cfg" % name for name in names.split())

SRC_URI:append:cumulet-board = " ${@cumulet_fragments(d)}"

# What the kernel was built with is checked against what Kubernetes needs, once the image is there.
do_deploy:append:cumulet-board() {
    install -m 0644 ${B}/.config ${DEPLOYDIR}/kernel.config
    install -m 0644 ${B}/modules.builtin ${DEPLOYDIR}/kernel.builtin
}
