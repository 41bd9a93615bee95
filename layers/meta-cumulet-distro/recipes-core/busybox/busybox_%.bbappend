FILESEXTRAPATHS:prepend:cumulet := "${THISDIR}/busybox:"

# What the initramfs' script uses beyond oe-core's choice.
SRC_URI:append:cumulet = " file://cumulet-init.cfg"
