# Makes a device as it was before it joined. What it was given by its image stays.
units='kube-proxy cumulet-flannel kubelet kube-scheduler kube-controller-manager kube-apiserver etcd cumulet-balancer k3s k3s-agent
cumulet-ready cumulet-addons'
for unit in $units; do
    systemctl stop "$unit.service" 2>/dev/null
done
# k3s lets its containers run on when it stops.
for unit in k3s k3s-agent; do
    systemctl kill --kill-whom=all -s SIGKILL "$unit.service" 2>/dev/null
done
if [ -e /var/lib/rancher/k3s/agent/containerd ]; then
    find /sys/fs/cgroup -path '*/kubepods*' -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u | xargs -r kill -9
fi
if command -v ctr >/dev/null && systemctl is-active -q containerd.service; then
    for task in $(ctr -n k8s.io tasks list -q 2>/dev/null); do
        ctr -n k8s.io tasks kill -s SIGKILL "$task" 2>/dev/null
    done
    for container in $(ctr -n k8s.io containers list -q 2>/dev/null); do
        for again in 1 2 3 4 5; do
            ctr -n k8s.io tasks delete -f "$container" >/dev/null 2>&1
            ctr -n k8s.io containers delete "$container" 2>/dev/null && break
            sleep 0.2
        done
    done
fi
# Volumes of pods first: nothing below a mount may be removed.
sed -n 's|^[^ ]* \(/var/lib/kubelet/[^ ]*\) .*|\1|p' /proc/mounts | sort -r | while read -r mount; do
    umount "$mount"
done
for unit in /etc/systemd/system/*.mount; do
    grep -q '^Description=Another version of' "$unit" 2>/dev/null || continue
    where=$(sed -n 's/^Where=//p' "$unit")
    systemctl disable -q --now "${unit##*/}" 2>/dev/null
    while grep -q " $where " /proc/mounts; do
        umount -l "$where" || break
    done
    rm -f "$unit"
done
systemctl daemon-reload
rm -rf /var/lib/cumulet/programs
rm -rf /etc/kubernetes /etc/cumulet/kubernetes /etc/cumulet/flannel.json /etc/cumulet/site.json /etc/cni/net.d/10-cumulet.conflist
rm -rf /etc/rancher/k3s /var/lib/rancher/k3s/server /var/lib/rancher/k3s/agent/kubelet* /run/flannel /run/cni
rm -rf /var/lib/etcd/member-data /var/lib/cumulet/site/installing /run/cumulet/etcd-again
find /var/lib/kubelet -mindepth 1 -delete
for table in 'ip kube-proxy' 'ip6 kube-proxy' 'ip cumulet'; do
    nft delete table $table 2>/dev/null
done
ip route show proto boot 2>/dev/null | sed -n 's|^\(10\.[0-9./]*\) via .*|\1|p' | while read -r route; do
    ip route del "$route"
done
systemctl reset-failed
sync -f /etc
sync -f /var/lib/kubelet
