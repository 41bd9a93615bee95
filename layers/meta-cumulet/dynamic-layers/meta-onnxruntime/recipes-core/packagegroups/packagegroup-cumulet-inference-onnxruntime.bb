SUMMARY = "Inference with onnxruntime"
DESCRIPTION = "onnxruntime's library and its Python package."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    onnxruntime \
    python3-numpy \
"
