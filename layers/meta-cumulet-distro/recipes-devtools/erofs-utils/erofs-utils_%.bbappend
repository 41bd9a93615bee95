# A recipe of cumulet may ask for it: disk: {compression: zstd}.
PACKAGECONFIG[zstd] = "--with-libzstd,--without-libzstd,zstd"
PACKAGECONFIG:append:cumulet = " zstd"
