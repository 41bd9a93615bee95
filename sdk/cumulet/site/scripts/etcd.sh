# The etcd members of a site, as seen from a device that has one. First argument: the verb.
pki=/etc/kubernetes/pki/etcd
export ETCDCTL_ENDPOINTS=https://127.0.0.1:2379 ETCDCTL_CACERT=$pki/ca.crt
export ETCDCTL_CERT=$pki/healthcheck-client.crt ETCDCTL_KEY=$pki/healthcheck-client.key
verb=$1
shift
# id, state, name, peers, clients, learner; one member a line.
members() { printf '%s\n' "$list" | sed 's/, /,/g'; }
id_of() { members | awk -F, -v peer="$1" '$4 == peer { print $1 }'; }

case $verb in
add | promote | remove | whole)
    # An etcd that does not answer has not let anybody go: what follows a removal clears a disk.
    list=$(etcdctl member list) || exit 1
    ;;
esac
case $verb in
healthy)
    etcdctl endpoint health >/dev/null
    ;;
list)
    etcdctl member list -w json
    ;;
add)
    # A member is known by its peer address; it has no name before it has started.
    [ -n "$(id_of "$2")" ] || etcdctl member add "$1" --learner --peer-urls="$2" >/dev/null
    ;;
promote)
    line=$(members | awk -F, -v peer="$1" '$4 == peer')
    case $line in
    *,false) exit 0 ;;
    *,true) etcdctl member promote "${line%%,*}" ;;
    *)
        echo "no member at $1" >&2
        exit 1
        ;;
    esac
    ;;
remove)
    id=$(id_of "$1")
    [ -z "$id" ] || etcdctl member remove "$id" >/dev/null
    ;;
whole)
    # Exactly the members that are named, every one started and none a learner.
    want=$(printf '%s\n' "$@" | sort)
    have=$(members | awk -F, '$2 == "started" && $6 == "false" { print $3 }' | sort)
    if [ "$want" != "$have" ] || [ "$(members | wc -l)" != $# ]; then
        echo "members: $(members | tr '\n' ' ')" >&2
        exit 1
    fi
    ;;
save)
    umask 077
    etcdctl snapshot save "$1" >/dev/null
    ;;
*)
    echo "etcd.sh: $verb?" >&2
    exit 2
    ;;
esac
