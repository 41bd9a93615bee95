# Images of the container runtime that Kubernetes uses. First argument: the verb.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
if [ -S /run/k3s/containerd/containerd.sock ]; then
    runtime() { k3s ctr -n k8s.io "$@"; }
else
    runtime() { ctr -n k8s.io "$@"; }
fi
# name, kind, digest, state: only those of which every byte is there count.
whole() { runtime images check 2>/dev/null | awk '$4 == "complete" { print $1, $3 }'; }
verb=$1
shift

case $verb in
list)
    whole
    ;;
import)
    # An archive, then every image that must come out of it as NAME=DIGEST.
    file=$1
    shift
    runtime images import --local "$file" >/dev/null || exit 1
    have=$(whole)
    for want; do
        case "
$have
" in
        *"
${want%=sha256:*} sha256:${want##*=sha256:}
"*) ;;
        *)
            echo "$(basename "$file"): $want did not come out of it" >&2
            exit 1
            ;;
        esac
        # The kubelet clears away images that no pod uses when a disk fills up; this one cannot be pulled again.
        runtime images label "${want%=sha256:*}" io.cri-containerd.pinned=pinned >/dev/null
    done
    ;;
*)
    echo "images.sh: $verb?" >&2
    exit 2
    ;;
esac
