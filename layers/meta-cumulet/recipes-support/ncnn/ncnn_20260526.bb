SUMMARY = "Neural networks on phones, on CPU and GPU"
DESCRIPTION = "ncnn is an inference library for mobile processors: no dependencies, NEON, and Vulkan on every GPU that \
has a driver for it."
HOMEPAGE = "https://github.com/Tencent/ncnn"
SECTION = "libs"
LICENSE = "BSD-3-Clause & BSD-2-Clause & Zlib"
LIC_FILES_CHKSUM = "file://LICENSE.txt;md5=d2141d1a2c978a089d3de7a67db0bbd2"

DEPENDS = "python3-pybind11"

# The shader compiler is a part of its own, at the commit that this release names.
SRC_URI = "\
    git://github.com/Tencent/ncnn.git;protocol=https;nobranch=1;name=ncnn \
    git://github.com/nihui/glslang.git;protocol=https;nobranch=1;name=glslang;destsuffix=${BB_GIT_DEFAULT_DESTSUFFIX}/glslang \
"
SRCREV_ncnn = "e54f7b1f88434e1d844ea0551b880a1cfb079ce1"
SRCREV_glslang = "fe88f421038e1bb0a25cd5c1b2dfe505db82d08f"
SRCREV_FORMAT = "ncnn_glslang"

inherit cmake pkgconfig python3targetconfig

EXTRA_OECMAKE = "\
    -DNCNN_SHARED_LIB=ON \
    -DNCNN_VULKAN=ON \
    -DNCNN_SIMPLEVK=ON \
    -DNCNN_BUILD_BENCHMARK=OFF \
    -DNCNN_BUILD_EXAMPLES=OFF \
    -DNCNN_BUILD_TESTS=OFF \
    -DNCNN_BUILD_TOOLS=OFF \
    -DNCNN_PYTHON=ON \
    -DNCNN_SYSTEM_PYBIND11=ON \
    -DNCNN_VERSION=${PV} \
    -DPYBIND11_USE_CROSSCOMPILING=ON \
    -DCMAKE_SKIP_RPATH=ON \
"

# Its own setup.py builds everything once more. Who asks Python which version is installed, reads METADATA.
do_install:append() {
    install -d ${D}${PYTHON_SITEPACKAGES_DIR}/ncnn ${D}${PYTHON_SITEPACKAGES_DIR}/ncnn-1.0.${PV}.dist-info
    install -m 0644 ${S}/python/ncnn/__init__.py ${D}${PYTHON_SITEPACKAGES_DIR}/ncnn/
    install -m 0755 ${B}/python/ncnn/ncnn.*.so ${D}${PYTHON_SITEPACKAGES_DIR}/ncnn/
    printf 'Metadata-Version: 2.1\nName: ncnn\nVersion: 1.0.%s\n' '${PV}' \
        > ${D}${PYTHON_SITEPACKAGES_DIR}/ncnn-1.0.${PV}.dist-info/METADATA
}

PACKAGES =+ "python3-ncnn"
FILES:python3-ncnn = "${PYTHON_SITEPACKAGES_DIR}"
RDEPENDS:python3-ncnn = "python3-core python3-numpy"

# Opened by its own name at run time.
RRECOMMENDS:${PN} = "vulkan-loader"
