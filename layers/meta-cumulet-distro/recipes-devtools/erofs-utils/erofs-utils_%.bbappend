# A recipe of cumulet may ask for it: disk: {compression: zstd}. A PACKAGECONFIG[zstd] would say --without-libzstd in
# every distribution.
DEPENDS:append:cumulet = " zstd"
EXTRA_OECONF:append:cumulet = " --with-libzstd"
