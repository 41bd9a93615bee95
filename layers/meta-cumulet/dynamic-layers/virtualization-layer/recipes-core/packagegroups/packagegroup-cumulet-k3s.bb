SUMMARY = "Kubernetes: k3s with its images"
DESCRIPTION = "k3s, the units and settings that start it by the role of the node, and the images that it needs at once."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    cumulet-kubernetes \
    k3s \
    k3s-images \
"
