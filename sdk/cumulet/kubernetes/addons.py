"""What runs in every kubeadm cluster: rights, DNS, metrics. All pure."""

from __future__ import annotations

from cumulet.kubernetes.layout import VERSIONS, make_image_name
from cumulet.kubernetes.model import Cluster, Text
from cumulet.kubernetes.render import render


def make_addons(cluster: Cluster, *, dns: int = 1) -> dict[str, Text]:
    """Manifests by file name, for one `kubectl apply`. `dns`: copies of DNS, each on its own node."""
    wanted = {name: make_image_name(name, VERSIONS[name]) for name in cluster.addons}
    manifests = {"00-rights.yaml": Text(render("rights.yaml.j2"))}
    for name, image in wanted.items():
        manifests[f"10-{name}.yaml"] = Text(render(f"{name}.yaml.j2", image=image, cluster=cluster, dns=dns))
    return manifests
