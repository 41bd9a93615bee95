"""Fixtures of the boot checks: the cluster's command line, and the one reboot."""

from __future__ import annotations

import pytest

from cumulet_qemu.checks.facts import MARKERS, READY_SECONDS, Identity, Kubernetes, probe_identity
from cumulet_qemu.guest import Guest
from cumulet_qemu.published import Published


@pytest.fixture(scope="session")
def cluster(image: Published, node: Guest) -> Kubernetes:
    """The cluster of the image, whose API answers."""
    if image.kubernetes is None:
        pytest.fail(f"{image.folder / 'image.json'}: has a cluster's checks but no 'kubernetes'")
    if image.kubernetes.distribution == "k3s":
        found = Kubernetes(node, image.kubernetes, "k3s kubectl", "k3s ctr")
    else:
        kubectl = "kubectl --kubeconfig /etc/kubernetes/admin.conf"
        found = Kubernetes(node, image.kubernetes, kubectl, "ctr")
    found.get("get --raw /readyz", READY_SECONDS)
    return found


@pytest.fixture(scope="session")
def identity(node: Guest) -> Identity:
    """The machine's identity before the reboot."""
    return probe_identity(node)


@pytest.fixture(scope="session")
def rebooted(request: pytest.FixtureRequest, image: Published, node: Guest, identity: Identity) -> Identity:
    """The machine's identity after its reboot, before which markers were written to disk and cluster."""
    for path in MARKERS:
        node.output(f"echo {identity.boot_id} > {path}")
    if image.kubernetes is not None:
        found: Kubernetes = request.getfixturevalue("cluster")
        found.get(f"create configmap cumulet-marker --from-literal=boot={identity.boot_id}")
    node.reboot()
    return probe_identity(node)
