#!/bin/sh
# Makes one node of the lab and becomes its init. Called twice: first in this computer's
# namespaces, to enter the node's control groups, then as process 1 of the node's own.
# FOLDER has what the node keeps, ROOT is the unpacked image, CGROUPS is a list of
# HIERARCHY=FOLDER pairs, TYPE is v1 or v2.
set -eu

if [ "${1:-}" != inside ]; then
    for pair in $CGROUPS; do
        echo $$ >"${pair#*=}/cgroup.procs"
    done
    exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child=KILL "$0" inside
fi

mount --make-rprivate /
root=$FOLDER/root
mount --bind "$ROOT" "$root"
mount -o remount,bind,ro "$root"

# As on a device: the root is read-only, /etc and /var lie over it, what grows lies beside it. Two reasons for
# plain folders: an overlay cannot hold containers' own overlays, and they outlive the node.
mount --bind "$FOLDER/data" "$root/data"
for name in etc var; do
    over=$FOLDER/data/overlay
    mkdir -p "$over/$name" "$over/.work/$name"
    mount -t overlay -o "lowerdir=$ROOT/$name,upperdir=$over/$name,workdir=$over/.work/$name" overlay "$root/$name"
done
for name in containerd kubelet etcd rancher; do
    [ -d "$root/var/lib/$name" ] || continue
    mkdir -p "$FOLDER/data/state/$name"
    mount --bind "$FOLDER/data/state/$name" "$root/var/lib/$name"
done

mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# Read-only, or udev in the node would set up this computer's devices.
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
mount -t tmpfs -o nosuid,mode=755 dev "$root/dev"
for name in null zero full random urandom tty kmsg fuse; do
    [ -e "/dev/$name" ] || continue
    : >"$root/dev/$name"
    mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o nosuid,nodev,mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
for number in 0:stdin 1:stdout 2:stderr; do
    ln -s "/proc/self/fd/${number%:*}" "$root/dev/${number#*:}"
done
: >"$root/dev/console"
mount --bind "$FOLDER/console" "$root/dev/console"
mount -t tmpfs -o nosuid,nodev,mode=755 run "$root/run"
mount -t tmpfs -o nosuid,nodev,mode=1777 tmp "$root/tmp"

# In the node's own cgroup namespace each hierarchy shows only the node's part of it.
if [ "$TYPE" = v2 ]; then
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    arguments=
else
    mount -t tmpfs -o nosuid,nodev,noexec,mode=755 cgroup "$root/sys/fs/cgroup"
    for pair in $CGROUPS; do
        name=${pair%%=*}
        mkdir -p "$root/sys/fs/cgroup/$name"
        case $name in
        systemd) mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd" ;;
        unified) mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" ;;
        *) mount -t cgroup -o "$name" cgroup "$root/sys/fs/cgroup/$name" ;;
        esac
        case $name in
        *,*) for one in $(echo "$name" | tr , ' '); do ln -s "$name" "$root/sys/fs/cgroup/$one"; done ;;
        esac
    done
    arguments="systemd.unified_cgroup_hierarchy=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1"
fi

cd "$root"
mkdir -p run/old
pivot_root . run/old
exec /usr/bin/env -i container=lab PATH=/usr/sbin:/usr/bin /bin/sh -c '
    umount -l /run/old && rmdir /run/old
    exec /lib/systemd/systemd '"$arguments"' >/dev/console 2>&1 </dev/null'
