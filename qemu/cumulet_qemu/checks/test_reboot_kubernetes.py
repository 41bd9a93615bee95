"""After the reboot the cluster is the same: its store, its node, its pods."""

from __future__ import annotations

import pytest

from cumulet_qemu.checks.facts import READY_CONDITIONS, READY_SECONDS, Identity, Kubernetes
from cumulet_qemu.guest import Guest, Patience
from cumulet_qemu.vm import VirtualMachine

pytestmark = pytest.mark.usefixtures("rebooted")
POD_SECONDS = 900.0


def test_node_is_ready_again(vm: VirtualMachine, cluster: Kubernetes, patience: Patience) -> None:
    assert vm.wait_state("ready", patience(READY_SECONDS)) > 0
    assert cluster.get(READY_CONDITIONS, READY_SECONDS) == "True"


def test_store_of_the_cluster_survives(identity: Identity, cluster: Kubernetes) -> None:
    value = cluster.get("get configmap cumulet-marker -o jsonpath='{.data.boot}'", READY_SECONDS)
    assert value == identity.boot_id


def test_system_pods_are_ready_again(node: Guest, cluster: Kubernetes) -> None:
    selector = "--field-selector=status.phase!=Succeeded"
    wait = f"{cluster.kubectl} -n kube-system wait --for=condition=Ready pods --all {selector} --timeout=60s"
    assert "condition met" in node.until(wait, POD_SECONDS)
