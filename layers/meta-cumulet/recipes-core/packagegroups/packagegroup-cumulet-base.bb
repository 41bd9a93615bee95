SUMMARY = "Init, network, ssh and time"
DESCRIPTION = "What every node has: the feature base of Cumulet's recipes."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    base-files \
    base-passwd \
    bash \
    busybox \
    ca-certificates \
    coreutils \
    cumulet-selftest \
    cumulet-system \
    e2fsprogs-e2fsck \
    e2fsprogs-mke2fs \
    iproute2 \
    kmod \
    netbase \
    nftables \
    openssh-keygen \
    openssh-sshd \
    os-release \
    shadow \
    systemd \
    systemd-networkd \
    tzdata-core \
    udev \
    util-linux-mount \
"
RRECOMMENDS:${PN} = "${MACHINE_EXTRA_RRECOMMENDS} ${MACHINE_ESSENTIAL_EXTRA_RRECOMMENDS}"
