# Models on a node. First argument: the verb.
export PATH=/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin
if [ -S /run/k3s/containerd/containerd.sock ]; then
    runtime() { k3s ctr -n k8s.io "$@"; }
else
    runtime() { ctr -n k8s.io "$@"; }
fi
store=${CUMULET_STORE:-/var/lib/cumulet/packages}
verb=$1
shift

case $verb in
list)
    # name, type, digest, size and its unit, platforms, labels
    runtime images list | awk '$1 ~ "^cumulet.dev/models/" { print "image", $1, $3, $4, $5 }' || exit 1
    for card in "$store"/*/*/cumulet-model.json; do
        [ -f "$card" ] || continue
        folder=${card%/cumulet-model.json}
        name=$(basename "$(dirname "$folder")")
        echo "store $name $(basename "$folder") $(du -sk "$folder" | cut -f1)"
    done
    ;;
remove)
    for name; do
        case $name in
        cumulet.dev/models/*)
            runtime images remove --sync "$name" >/dev/null || exit 1
            ;;
        */*/* | .* | */.* | *..*)
            echo "models.sh: $name: is no model" >&2
            exit 2
            ;;
        */*)
            if [ ! -f "$store/$name/cumulet-model.json" ]; then
                echo "models.sh: $name: is no model" >&2
                exit 2
            fi
            # Under another name first: half a model must not look like one.
            mv "$store/$name" "$store/${name%/*}/.new-gone" && rm -rf "$store/${name%/*}/.new-gone" || exit 1
            ;;
        *)
            echo "models.sh: $name: is no model" >&2
            exit 2
            ;;
        esac
    done
    ;;
*)
    echo "models.sh: $verb?" >&2
    exit 2
    ;;
esac
