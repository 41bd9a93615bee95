#!/bin/busybox sh
# The least that brings an untrimmed Debian root up: what its own initramfs would do, without probing.
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
for module in $(cat /modules/order); do insmod "/modules/$module"; done
until [ -b /dev/vda ]; do sleep 0.1; done
mount -t ext4 /dev/vda /sysroot
for folder in proc sys dev; do mount -o move "/$folder" "/sysroot/$folder"; done
exec switch_root /sysroot /sbin/init
