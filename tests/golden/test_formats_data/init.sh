#!/bin/busybox sh
# From the kernel to systemd: find the root partition, mount it read-only, put the
# writable folders over it, hand over. Under emulation every process counts, so
# that what the shell can do itself it does.

say() { echo "cumulet: $*"; }

# fail TEXT: without a root there is nothing to go on with. A restart lets the
# boot loader count the try and go back to the other slot.
fail() {
	say "$*" >&2
	[ -n "$rescue" ] && exec setsid cttyhack sh
	say "restarting in 10 seconds; add cumulet.rescue to the kernel command line for a shell" >&2
	sleep 10
	reboot -f
}

# find_root: set `disk` and `part` to where $root is, and `data` to the data
# partition of the same disk. The kernel tells partition names in sysfs.
find_root() {
	for folder in /sys/block/*; do
		disk=${folder##*/} part= data=
		for event in "$folder/$disk"*/uevent; do
			[ -e "$event" ] || continue
			name= device=
			while IFS='=' read -r key value; do
				case $key in
				PARTNAME) name=$value ;;
				DEVNAME) device=$value ;;
				esac
			done <"$event"
			[ "$root" = "PARTLABEL=$name" ] || [ "$root" = "/dev/$device" ] && part=$device
			[ "$name" = data ] && data=$device
		done
		[ -n "$part" ] && return 0
	done
	return 1
}

# mount_data: the data partition, repaired if need be, made anew if it was wiped.
mount_data() {
	mount -t ext4 -o noatime "/dev/$data" /sysroot/data 2>/dev/null && return 0
	mount -o bind /dev /sysroot/dev
	if [ "$(dd if="/dev/$data" bs=64k count=16 2>/dev/null | tr -d '\0' | head -c 1 | wc -c)" = 0 ]; then
		say "/dev/$data is empty: making a file system"
		chroot /sysroot /usr/sbin/mke2fs -q -F -t ext4 -m 0 -L data "/dev/$data"
	else
		say "/dev/$data cannot be mounted: checking it" >&2
		chroot /sysroot /usr/sbin/e2fsck -y "/dev/$data"
	fi
	umount /sysroot/dev
	mount -t ext4 -o noatime "/dev/$data" /sysroot/data
}

# reread_data: mount it again if it may have been cut off while it grew. The kernel reads the size of
# a file system before it replays the journal: it would go on with the old number of block groups, and
# growing from there ends in a kernel bug.
reread_data() {
	[ -e /sysroot/data/.growing ] || return 0
	umount /sysroot/data && mount_data
}

# note_growth: leave a note for cumulet-grow.service if the data partition does not reach the end of
# its disk, or if growing was cut short.
note_growth() {
	read -r whole <"/sys/block/$disk/size"
	read -r start <"/sys/block/$disk/$data/start"
	read -r size <"/sys/block/$disk/$data/size"
	if [ $((whole - start - size)) -gt 16384 ] || [ -e /sysroot/data/.growing ]; then
		# On disk before the partition is enlarged: a cut in between must not leave the file system small.
		[ -e /sysroot/data/.growing ] || { : >/sysroot/data/.growing && sync; }
		[ -d /run/cumulet ] || mkdir /run/cumulet
		echo "DISK=/dev/$disk" >/run/cumulet/grow
	fi
}

mount -t proc -o nosuid,nodev,noexec proc /proc
mount -t sysfs -o nosuid,nodev,noexec sysfs /sys
mount -t devtmpfs -o nosuid,mode=755 devtmpfs /dev
mount -t tmpfs -o nosuid,nodev,mode=755 tmpfs /run

root= own= rescue= tmpfs= wait=30 init=/sbin/init
read -r words </proc/cmdline
for word in $words; do
	case $word in
	root=*) root=${word#root=} ;;
	init=*) init=${word#init=} ;;
	cumulet.root=*) own=${word#cumulet.root=} ;;
	cumulet.rescue) rescue=1 ;;
	cumulet.data=tmpfs) tmpfs=1 ;;
	cumulet.wait=*) wait=${word#cumulet.wait=} ;;
	esac
done

# Android's boot loaders add root= and init= of their own, for Android.
[ -z "$own" ] || root=$own init=/sbin/init

insmod /modules/virtio_blk.ko
insmod /modules/erofs.ko
insmod /modules/ext4.ko
insmod /modules/overlay.ko

case $root in
PARTLABEL=?* | /dev/?*) ;;
*) fail "root=$root: name a partition, as root=PARTLABEL=root-a" ;;
esac
left=$((wait * 10))
until find_root; do
	[ $left -gt 0 ] || fail "no partition $root after $wait seconds"
	left=$((left - 1))
	sleep 0.1
done

mount -t erofs -o ro,nodev "/dev/$part" /sysroot || fail "/dev/$part: cannot be mounted as the root"
if [ -n "$tmpfs" ]; then
	say "writable data is in memory, as the kernel command line asks: NOTHING IS KEPT"
	data=
elif [ -z "$data" ]; then
	say "no data partition on /dev/$disk: writable data is in memory, NOTHING IS KEPT" >&2
elif mount_data && reread_data; then
	note_growth
else
	say "/dev/$data is broken: writable data is in memory, NOTHING IS KEPT" >&2
	data=
fi
[ -n "$data" ] || mount -t tmpfs -o mode=755 data /sysroot/data

# Of each pair the second is looked for: it is made last, also when the power goes in between.
new=
[ -d /sysroot/data/overlay/.work/etc ] || new="$new /sysroot/data/overlay/etc /sysroot/data/overlay/.work/etc"
[ -d /sysroot/data/overlay/.work/var ] || new="$new /sysroot/data/overlay/var /sysroot/data/overlay/.work/var"
[ ! -d /sysroot/var/lib/containerd ] || [ -d /sysroot/data/state/containerd ] || new="$new /sysroot/data/state/containerd"
[ ! -d /sysroot/var/lib/kubelet ] || [ -d /sysroot/data/state/kubelet ] || new="$new /sysroot/data/state/kubelet"
[ ! -d /sysroot/var/lib/etcd ] || [ -d /sysroot/data/state/etcd ] || new="$new /sysroot/data/state/etcd"
[ ! -d /sysroot/var/lib/rancher ] || [ -d /sysroot/data/state/rancher ] || new="$new /sysroot/data/state/rancher"
[ -z "$new" ] || mkdir -p $new
mount -t overlay -o lowerdir=/sysroot/etc,upperdir=/sysroot/data/overlay/etc,workdir=/sysroot/data/overlay/.work/etc overlay /sysroot/etc || fail "/etc cannot be made writable"
mount -t overlay -o lowerdir=/sysroot/var,upperdir=/sysroot/data/overlay/var,workdir=/sysroot/data/overlay/.work/var overlay /sysroot/var || fail "/var cannot be made writable"
[ ! -d /sysroot/var/lib/containerd ] || mount -o bind /sysroot/data/state/containerd /sysroot/var/lib/containerd
[ ! -d /sysroot/var/lib/kubelet ] || mount -o bind /sysroot/data/state/kubelet /sysroot/var/lib/kubelet
[ ! -d /sysroot/var/lib/etcd ] || mount -o bind /sysroot/data/state/etcd /sysroot/var/lib/etcd
[ ! -d /sysroot/var/lib/rancher ] || mount -o bind /sysroot/data/state/rancher /sysroot/var/lib/rancher

mount -t tmpfs -o nosuid,nodev,mode=1777 tmp /sysroot/tmp

# A machine id from the first boot on: without one systemd takes every boot for the
# first and sets all units to their presets, which takes long on a slow processor.
if ! [ -s /sysroot/etc/machine-id ]; then
	read -r id </proc/sys/kernel/random/uuid
	echo "${id//-/}" >/sysroot/etc/machine-id
fi

read -r up idle </proc/uptime
say "root mounted $up"
for folder in proc sys dev run; do
	mount -o move "/$folder" "/sysroot/$folder"
done
exec switch_root /sysroot "$init"
fail "$init cannot be started"
