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
for program in kubeadm k3s containerd; do
    [ -x "/usr/bin/$program" ] || continue
    case $program in
    kubeadm) say program kubeadm "$(kubeadm version -o short 2>/dev/null)" ;;
    k3s) say program k3s "$(k3s --version 2>/dev/null | sed -n 's/^k3s version \([^ ]*\).*/\1/p')" ;;
    containerd) say program containerd "$(containerd --version 2>/dev/null | cut -d' ' -f3)" ;;
    esac
done
for unit in containerd etcd kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy \
    cumulet-balancer cumulet-flannel k3s k3s-agent; do
    systemctl is-active -q "$unit.service" 2>/dev/null && say active "$unit"
done
k3s=/var/lib/rancher/k3s
# k3s gives a node this file when it lets it in.
if [ -e /etc/cumulet/kubernetes/made ] || [ -s $k3s/agent/kubelet.kubeconfig ]; then say made; fi
if [ -d /var/lib/etcd/member-data/member ] || [ -d $k3s/server/db/etcd/member ]; then say etcd-data; fi
[ ! -r /var/lib/cumulet/site/installing ] || say installing "$(cat /var/lib/cumulet/site/installing)"
for path; do
    [ -f "$path" ] || continue
    sum=$(sha256sum <"$path")
    say file "${sum%% *}" "$path"
done
say end
