"""An image with k3s around a stand-in: what boots, what k3s is given, and how the node says that it is Ready.

The stand-in answers only where the image asks: it refuses settings it was not given, an address it cannot
read, images that are not where k3s looks for them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cumulet.core.deadline import Deadline
from cumulet_qemu.machine import Options
from cumulet_qemu.nodefile import make_document
from cumulet_qemu.published import load_published
from cumulet_qemu.vm import VirtualMachine

pytestmark = [pytest.mark.boot, pytest.mark.timeout(1800)]
STAND_IN = """#!/bin/sh
set -eu
kubeconfig=/var/lib/rancher/k3s/agent/kubelet.kubeconfig
case "$1" in
server)
    grep -q '^cluster-init: true' /etc/rancher/k3s/config.yaml
    grep -q '^node-name: ' /etc/rancher/k3s/config.yaml
    for archive in /var/lib/rancher/k3s/agent/images/*.tar*; do cp "$archive" /run/seen-images; done
    mkdir -p "${kubeconfig%/*}"
    touch "$kubeconfig" /var/lib/rancher/k3s/state
    systemd-notify --ready
    exec sleep infinity
    ;;
kubectl)
    [ -e "$kubeconfig" ]
    echo "$(cat /proc/sys/kernel/random/boot_id) True"
    ;;
*) exit 2 ;;
esac
"""
SECONDS = 600.0


def test_a_node_with_k3s_starts_it_and_becomes_ready(build: Callable[..., Path], tmp_path: Path) -> None:
    binary, images = tmp_path / "k3s", tmp_path / "k3s-airgap-images-amd64.tar.zst"
    binary.write_text(STAND_IN)
    images.write_bytes(b"the airgap images")
    options = ["board=qemu-amd64", "image=k3s-stand-in", "kubernetes.source=file"]
    options += [f"kubernetes.files.binary={binary}", f"kubernetes.files.images={images}"]
    words = [word for option in options for word in ("--set", option)]
    published = load_published(build("qemu-arm64-k3s", "k3s-stand-in", *words))
    with VirtualMachine(published, Options(node=make_document(published, []))) as vm:
        vm.wait_state("ready", Deadline.after(SECONDS))
        vm.wait_state("running", Deadline.after(SECONDS))
        shell = vm.open_shell(Deadline.after(SECONDS))
        facts = {
            "cat /run/seen-images": "the airgap images",
            "systemctl is-active k3s.service cumulet-ready.target": "active\nactive",
            # A worker's unit stays off on a server, and state is on the data partition.
            "systemctl is-active k3s-agent.service || true": "inactive",
            "ls /data/state/rancher/k3s/state": "/data/state/rancher/k3s/state",
            "stat -c %a /etc/rancher/k3s/config.yaml": "600",
        }
        assert {word: shell.check_run(word, Deadline.after(60)) for word in facts} == facts
