SUMMARY = "What starts Kubernetes on a node of Cumulet by the node's role"
DESCRIPTION = "Units, the first-boot program and the settings of a lone node: the SDK's own, as in every image."
HOMEPAGE = "https://cumulet.dev"
SECTION = "base"

CUMULET_ARCHIVE = "kubernetes.tar"

inherit cumulet_handover allarch

FILES:${PN} = "${sysconfdir} ${nonarch_libdir} ${datadir} ${bindir} ${localstatedir}"

RDEPENDS:${PN} = "k3s"
