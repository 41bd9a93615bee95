# Facts about this device, as lines `key value`. Arguments: files whose digests are wanted.
say() { printf '%s\n' "$*"; }
say version 1
say time "$(date +%s.%N)"
say architecture "$(uname -m)"
say kernel "$(uname -r)"
say hostname "$(uname -n)"
say cpus "$(grep -c ^processor /proc/cpuinfo)"
memory=$(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo)
for limit in /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max; do
    [ -r "$limit" ] || continue
    bytes=$(cat "$limit")
    case $bytes in *[!0-9]*) continue ;; esac
    # A limit of a container; none is written as a number beyond all memory.
    [ ${#bytes} -gt 15 ] || [ $((bytes / 1024)) -ge "$memory" ] || memory=$((bytes / 1024))
done
say memory "$memory"
say disk "$(df -Pk /var/lib | awk 'NR == 2 { print $4 }')"
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then say cgroup 2; else say cgroup 1; fi
# Bit 24 of the capabilities lets a process be shielded from the memory killer.
caps=$(sed -n 's/^CapBnd:\t*//p' /proc/self/status)
case $(printf %s "$caps" | cut -c10) in [13579bdf]) say restricted 0 ;; *) say restricted 1 ;; esac
say boot "$(cat /proc/sys/kernel/random/boot_id)"
say machine "$(cat /etc/machine-id 2>/dev/null)"
say role "$(sed -n 's/^CUMULET_ROLE=//p' /run/cumulet/node.env 2>/dev/null)"
ip -o -4 address show scope global 2>/dev/null | while read -r _ name _ address _; do
    say link "${address%/*}" "$(cat "/sys/class/net/$name/mtu")"
done
version() {
    case $1 in
    kubeadm) kubeadm version -o short ;;
    k3s) k3s --version | sed -n 's/^k3s version \([^ ]*\).*/\1/p' ;;
    containerd) containerd --version | cut -d' ' -f3 ;;
    esac 2>/dev/null
}
# Big programs take long to start: what one has said is kept until its file changes.
kept=/run/cumulet/versions
for program in kubeadm k3s containerd; do
    [ -x "/usr/bin/$program" ] || continue
    file=$(stat -Lc '%d:%i:%s:%Y:%Z' "/usr/bin/$program")
    said=
    [ ! -r "$kept/$program" ] || read -r was said <"$kept/$program" || :
    if [ -z "$said" ] || [ "$was" != "$file" ]; then
        said=$(version "$program")
        [ -z "$said" ] || { mkdir -p "$kept" && printf '%s %s\n' "$file" "$said" >"$kept/$program"; } 2>/dev/null || :
    fi
    say program "$program" "$said"
done
units="containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy cumulet-balancer \
cumulet-flannel k3s k3s-agent"
# shellcheck disable=SC2086 # one word for each unit
systemctl is-active $units 2>/dev/null | {
    for unit in $units; do
        read -r state && [ "$state" = active ] && say active "$unit"
    done
}
k3s=/var/lib/rancher/k3s
# k3s gives a node this file when it lets it in.
if [ -e /etc/cumulet/kubernetes/made ] || [ -s $k3s/agent/kubelet.kubeconfig ]; then say made; fi
if [ -d /var/lib/etcd/member-data/member ] || [ -d $k3s/server/db/etcd/member ]; then say etcd-data; fi
[ ! -r /var/lib/cumulet/site/installing ] || say installing "$(cat /var/lib/cumulet/site/installing)"
# Folders and what is missing are told on stderr.
[ $# -eq 0 ] || sha256sum -- "$@" 2>/dev/null | sed 's/  / /; s/^/file /'
say end
