SUMMARY = "The GPU: Vulkan, and what hands it to pods"
DESCRIPTION = "The feature gpu of Cumulet's recipes: the loader that finds the GPU's driver, the driver, and what the \
SDK's device plugin speaks to kubelet with."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    packagegroup-cumulet-sdk \
    python3-grpcio \
    python3-protobuf \
    vulkan-loader \
"
RRECOMMENDS:${PN} = "mesa-vulkan-drivers"
