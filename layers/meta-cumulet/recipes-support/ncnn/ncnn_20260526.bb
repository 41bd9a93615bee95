SUMMARY = "Neural networks on phones, on CPU and GPU"
DESCRIPTION = "ncnn is an inference library for mobile processors: no dependencies, NEON, and Vulkan on every GPU that \
has a driver for it."
HOMEPAGE = "https://github.com/Tencent/ncnn"
SECTION = "libs"
LICENSE = "BSD-3-Clause & BSD-2-Clause & Zlib"
LIC_FILES_CHKSUM = "file://LICENSE.txt;md5=d2141d1a2c978a089d3de7a67db0bbd2"

# The shader compiler is a part of its own, at the commit that this release names.
SRC_URI = "\
    git://github.com/Tencent/ncnn.git;protocol=https;nobranch=1;name=ncnn \
    git://github.com/nihui/glslang.git;protocol=https;nobranch=1;name=glslang;destsuffix=${BB_GIT_DEFAULT_DESTSUFFIX}/glslang \
"
SRCREV_ncnn = "e54f7b1f88434e1d844ea0551b880a1cfb079ce1"
SRCREV_glslang = "fe88f421038e1bb0a25cd5c1b2dfe505db82d08f"
SRCREV_FORMAT = "ncnn_glslang"

inherit cmake pkgconfig

EXTRA_OECMAKE = "\
    -DNCNN_SHARED_LIB=ON \
    -DNCNN_VULKAN=ON \
    -DNCNN_SIMPLEVK=ON \
    -DNCNN_BUILD_BENCHMARK=OFF \
    -DNCNN_BUILD_EXAMPLES=OFF \
    -DNCNN_BUILD_TESTS=OFF \
    -DNCNN_BUILD_TOOLS=OFF \
    -DNCNN_VERSION=${PV} \
"

# Opened by its own name at run time.
RRECOMMENDS:${PN} = "vulkan-loader"
