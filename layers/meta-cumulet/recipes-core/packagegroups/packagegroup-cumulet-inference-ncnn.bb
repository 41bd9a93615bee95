SUMMARY = "Inference with ncnn"
DESCRIPTION = "ncnn with Vulkan and its Python package, and the loader that finds the GPU's driver."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    ncnn \
    python3-ncnn \
    vulkan-loader \
"
RRECOMMENDS:${PN} = "mesa-vulkan-drivers"
