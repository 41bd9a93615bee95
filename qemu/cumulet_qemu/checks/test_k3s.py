"""An image with k3s: its service runs from the read-only root, its images come from the image's own archive."""

from __future__ import annotations

from cumulet_qemu.checks.facts import Kubernetes
from cumulet_qemu.guest import Guest


def test_k3s_service_is_active(node: Guest, cluster: Kubernetes) -> None:
    assert cluster.facts.distribution == "k3s"
    assert node.output("systemctl is-active k3s.service") == "active"


def test_every_container_uses_an_image_that_is_preloaded(node: Guest, cluster: Kubernetes) -> None:
    wanted = cluster.get("get pods -A -o jsonpath='{.items[*].spec.containers[*].image}'").split()
    present = node.output(f"{cluster.ctr} -n k8s.io images list -q").split()
    assert wanted
    assert [name for name in wanted if not any(image.endswith(name) for image in present)] == []
