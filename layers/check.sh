#!/bin/bash
# The checks of our layers that need the other layers: what no package registry has, and so no CI of ours.
#
#     layers/check.sh DIR [STEP...]
#
# DIR has clones, at the commits of recipes/kas/lock.yaml, of bitbake, openembedded-core, meta-openembedded, meta-virtualization,
# meta-onnxruntime, meta-tensorflow-lite and meta-arm. Everything that is written lies in DIR/check, a log for each check. Run it as
# an ordinary user, with cumulet and kas on PATH and what bitbake needs of a computer. Steps, all of them unless some are named:
#
#     parse      bitbake -p for every machine, no error and no warning
#     graph      bitbake -g of the image for every machine; for the first with everything in it that it promises
#     fetch      -n --runonly=fetch: every task that fetches, without fetching
#     overlayed  no recipe of ours hides another layer's, or is hidden
#     build      every recipe of ours whose sources are local, to do_install
#     layers     yocto-check-layer for each of the three (hours)
#
# MACHINES="one another" is for fewer machines, EVERYTHING=yes for every layer with every machine, LAYERS for fewer layers,
# THREADS (2) for more or fewer tasks at a time, LIMIT for no command of over so many seconds. What a limit cuts off has read
# recipes that the next try need not read again.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
clones=$(cd "$1" && pwd)
shift
steps=${*:-parse graph fetch overlayed build layers}
work=$clones/check
machines=${MACHINES:-$(cd "$here/meta-cumulet-bsp/conf/machine" && ls ./*.conf | sed 's|./||; s|\.conf||')}
first=cumulet-qemuarm64
base="cumulet-system cumulet-init cumulet-boot cumulet-initramfs cumulet-selftest linux-yocto systemd-boot"
promised="$base k3s containerd runc cni cumulet-kubernetes k3s-images onnxruntime litert python3-tensorflow-lite ncnn mesa
    modemmanager networkmanager libqrtr-glib gpsd chrony nftables python3-cumulet python3-asyncssh python3-grpcio"
failed=0

# result NAME STATUS TEXT: one line, and the memory that something failed.
result() {
    [ "$2" = ok ] || failed=1
    printf '%-9s %-32s %s\n' "$2" "$1" "$3"
}

# in_build LOG COMMAND: run a command as kas would, with the document of our image; seconds in $took. kas keeps nothing of the
# caller's environment; programs and locales that are not in their usual place are still to be found. bitbake's server waits for
# the next command with everything that it has read.
in_build() {
    local start=$SECONDS code=0 around="export PATH=\"\$PATH:$PATH\" BB_SERVER_TIMEOUT=120; "
    [ -z "${LOCPATH:-}" ] || around="$around export LOCPATH=$LOCPATH BB_ENV_PASSTHROUGH_ADDITIONS=\"\$BB_ENV_PASSTHROUGH_ADDITIONS LOCPATH\"; "
    KAS_WORK_DIR=$work KAS_BUILD_DIR=$work/build timeout "${LIMIT:-0}" kas shell "$work/kas.yaml:$work/computer.yaml" -c "$around$2" \
        >"$work/$1.log" 2>&1 || code=$?
    took=$((SECONDS - start))
    return $code
}

# complaints LOG: how many warnings and errors bitbake has printed.
complaints() {
    grep -cE '^(WARNING|ERROR):' "$work/$1.log" || true
}

# has_everything MACHINE: whether all layers are read for it, and all that an image may have is in its image.
has_everything() {
    [ "$1" = $first ] || [ "${EVERYTHING:-}" = yes ]
}

# bitbake_for MACHINE: how bitbake is called. Machines differ in what openembedded-core and meta-arm build for them; with the first,
# which is the document's own, the other layers are read too, once for all steps.
bitbake_for() {
    if [ "$1" = $first ]; then
        echo bitbake
        return
    fi
    echo "MACHINE = \"$1\"" >"$work/machine-$1.conf"
    has_everything "$1" || cat "$work/small.conf" >>"$work/machine-$1.conf"
    echo "bitbake -r $work/machine-$1.conf"
}

# expected_of MACHINE: the recipes that its image cannot do without.
expected_of() {
    has_everything "$1" && echo "$promised" || echo "$base"
    case $(grep '^CUMULET_BOOT' "$here/meta-cumulet-bsp/conf/machine/$1.conf") in
    *uboot*) echo "u-boot trusted-firmware-a" ;;
    *phone*) echo "qrtr rmtfs tqftpserv qmic-native" ;;
    esac
}

check_parse() {
    for machine in $machines; do
        log=parse-$machine
        status=ok
        in_build "$log" "$(bitbake_for "$machine") -p" || status=FAILED
        [ "$(complaints "$log")" = 0 ] || status=FAILED
        result "$log" $status "$took s: $(grep -o 'Parsing of .*' "$work/$log.log" || tail -n 1 "$work/$log.log")"
    done
}

check_graph() {
    for machine in $machines; do
        log=graph-$machine
        status=ok
        rm -f "$work/build/pn-buildlist"
        in_build "$log" "$(bitbake_for "$machine") -g cumulet-image" || status=FAILED
        [ "$(complaints "$log")" = 0 ] || status=FAILED
        if [ ! -e "$work/build/pn-buildlist" ]; then
            result "$log" FAILED "$took s: $(grep -m 1 '^ERROR' "$work/$log.log" || tail -n 1 "$work/$log.log")"
            continue
        fi
        missing=
        for name in $(expected_of "$machine"); do
            grep -qx "$name" "$work/build/pn-buildlist" || missing="$missing $name"
        done
        [ -z "$missing" ] || status=FAILED
        text="$(wc -l <"$work/build/pn-buildlist") recipes, $(wc -l <"$work/build/task-depends.dot") lines of tasks"
        mv "$work/build/pn-buildlist" "$work/$log.txt"
        result "$log" $status "$took s: $text${missing:+; not among them:$missing}"
    done
}

check_fetch() {
    status=ok
    in_build fetch "bitbake -n --runonly=fetch cumulet-image" || status=FAILED
    result fetch $status "$took s: $(grep 'Tasks Summary' "$work/fetch.log" || tail -n 1 "$work/fetch.log")"
}

check_overlayed() {
    status=ok
    in_build overlayed "bitbake-layers show-overlayed" || status=FAILED
    ! grep -E '^ +(meta-)?cumulet' "$work/overlayed.log" || status=FAILED
    result overlayed $status "$took s: $(grep -cE '^ +' "$work/overlayed.log" || true) lines about other layers, none about ours"
}

# No native program has been built: without the one that pretends to be root, files keep their owner.
write_stand_in() {
    printf '#!/bin/sh\n[ "$1" != -S ] || exit 0\nexec "$@"\n' >"$work/as-we-are"
    chmod +x "$work/as-we-are"
    echo "FAKEROOTCMD = \"$work/as-we-are\"" >"$work/local-tools.conf"
}

check_build() {
    write_stand_in
    recipes=$(cd "$here" && grep -lE '^(inherit .*cumulet_handover|SRC_URI = "file://|SRC_URI = "\$\{CUMULET_)' -r --include='*.bb' .)
    for recipe in $recipes; do
        name=$(basename "$recipe" .bb)
        task=install
        grep -q 'nopackages' "$here/$recipe" && task=unpack
        status=ok
        in_build "build-$name" "bitbake -R $work/local-tools.conf -b $here/$recipe -c $task" || status=FAILED
        result "build-$name" $status "$took s: do_$task: $(grep 'Tasks Summary' "$work/build-$name.log" || tail -n 1 "$work/build-$name.log")"
    done
}

check_layers() {
    for layer in ${LAYERS:-meta-cumulet-bsp meta-cumulet-distro meta-cumulet}; do
        others=$(printf "$clones/%s " openembedded-core/meta meta-openembedded/meta-oe meta-openembedded/meta-python meta-openembedded/meta-networking)
        # That a machine changes nothing of another's is only asked where machines are named.
        machines_of=
        # shellcheck disable=SC2086,SC2116 # one line
        [ "$layer" != meta-cumulet-bsp ] || machines_of="--machines $(echo $machines)"
        status=ok
        rm -rf "$work/layer-build"
        # shellcheck disable=SC2086 # a list of folders
        in_build "layer-$layer" "cd $work && . $clones/openembedded-core/oe-init-build-env layer-build >/dev/null &&
            cp $work/layer.conf conf/auto.conf &&
            yocto-check-layer --no-auto-dependency --dependency $others $here/meta-cumulet-distro $machines_of -- $here/$layer" || status=FAILED
        text=$(grep -E '^(INFO: )?Ran [0-9]+ tests|Summary of results' -A 4 "$work/layer-$layer.log" | tail -n 3 | tr '\n' ' ')
        result "layer-$layer" $status "$took s: $text"
    done
}

# The document of the image that has everything, its handover, and a stand-in for k3s' images.
prepare() {
    mkdir -p "$work"
    : >"$work/k3s-airgap-images-arm64.tar.zst"
    cumulet kas qemu-arm64-yocto --set kubernetes.source=file \
        --set "kubernetes.files={images: $work/k3s-airgap-images-arm64.tar.zst}" --set yocto.layers+=arm --set firewall.enabled=true \
        --set "features+=[modem-5g, gnss-beidou, inference-onnxruntime, inference-litert, inference-ncnn]" --to "$work"
    {
        echo 'header: {version: 19}'
        echo 'repos:'
        for repository in "$clones"/*/; do
            name=$(basename "$repository")
            grep -q "^  $name:" "$work/kas.yaml" || continue
            echo "  $name: {url: null, branch: null, path: $clones/$name}"
        done
        echo 'local_conf_header:'
        echo '  offline: |'
        sed 's/^/    /' "$work/layer.conf"
    } >"$work/computer.yaml"
}

mkdir -p "$work"
cat >"$work/layer.conf" <<END
BB_NO_NETWORK = "1"
CONNECTIVITY_CHECK_URIS = ""
INHERIT:remove = "uninative"
BB_NUMBER_THREADS = "${THREADS:-2}"
BB_NUMBER_PARSE_THREADS = "${THREADS:-2}"
CUMULET_HANDOVER = "$work/handover"
END
cat >"$work/small.conf" <<'END'
# The firewall, which every image has, comes from here.
BBMASK:append = " /meta-openembedded/(?!.*/(nftables|libnftnl|jansson)_) /meta-virtualization/ /meta-onnxruntime/ /meta-tensorflow-lite/ /dynamic-layers/virtualization-layer/"
CUMULET_INSTALL:forcevariable = ""
BBFILE_PATTERN_IGNORE_EMPTY_openembedded-layer = "1"
BBFILE_PATTERN_IGNORE_EMPTY_meta-python = "1"
BBFILE_PATTERN_IGNORE_EMPTY_networking-layer = "1"
BBFILE_PATTERN_IGNORE_EMPTY_filesystems-layer = "1"
BBFILE_PATTERN_IGNORE_EMPTY_virtualization-layer = "1"
BBFILE_PATTERN_IGNORE_EMPTY_meta-onnxruntime = "1"
BBFILE_PATTERN_IGNORE_EMPTY_meta-tensorflow-lite = "1"
END
prepare
for step in $steps; do
    "check_$step"
done
exit $failed
