SUMMARY = "Inference with LiteRT"
DESCRIPTION = "LiteRT, and the interpreter's Python package tflite_runtime."
PACKAGE_ARCH = "${MACHINE_ARCH}"

inherit packagegroup

RDEPENDS:${PN} = "\
    litert \
    python3-numpy \
    python3-tensorflow-lite \
"
