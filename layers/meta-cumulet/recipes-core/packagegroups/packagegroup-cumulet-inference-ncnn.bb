SUMMARY = "Inference with ncnn"
DESCRIPTION = "ncnn with Vulkan, and the loader that finds the GPU's driver."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    ncnn \
    vulkan-loader \
"
RRECOMMENDS:${PN} = "mesa-vulkan-drivers"
