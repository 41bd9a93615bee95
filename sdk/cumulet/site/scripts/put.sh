# Makes files, each whole or not at all. Arguments: path, length, permissions, for each file; the contents come one
# after the other as input. Prints the path that it is at.
umask 077
# Those that are done wait behind the $left arguments that are still to do.
left=$#
fail() {
    rm -f "$1.new"
    shift "$left"
    for path in "$@"; do rm -f "$path.new"; done
    exit 1
}
while [ "$left" -gt 0 ]; do
    echo "$1"
    mkdir -p "${1%/*}" || fail "$@"
    case $1 in
    /etc/kubernetes/pki/*) ;;
    *) chmod 755 "${1%/*}" || fail "$@" ;;
    esac
    # The length is checked because a connection that breaks looks like the end of the input.
    head -c "$2" >"$1.new" && [ "$(wc -c <"$1.new")" -eq "$2" ] && chmod "$3" "$1.new" || fail "$@"
    set -- "$@" "$1"
    shift 3
    left=$((left - 3))
done
for path in "$@"; do
    set -- "$@" "$path.new"
    shift
done
# One call for all: flash takes its time for each.
sync "$@" || exit 1
for path in "$@"; do
    mv "$path" "${path%.new}" || exit 1
done
