"""The recorder on a site's control node: what it may read, how it is started. A second run changes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Final

from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.tasks import Device

NAME: Final = "cumulet-monitor"
NAMESPACE: Final = "kube-system"
ACCESS: Final = "/etc/cumulet/monitor.conf"
UNIT: Final = "/etc/systemd/system/cumulet-monitor.service"
BALANCER: Final = "https://127.0.0.1:7443"
"""Every node of a site of several masters has its own way to them."""
APPLY: Final = "application/apply-patch+yaml"
RIGHTS: Final = (
    ("", ("nodes", "pods")),
    ("apps", ("deployments",)),
    ("autoscaling", ("horizontalpodautoscalers",)),
    ("metrics.k8s.io", ("nodes", "pods")),
)
"""It reads; it changes nothing."""


def make_objects() -> list[tuple[str, Json]]:
    """Path and object: an account, its rights, and a token that does not end with the day."""
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}}
    rules = [{"apiGroups": [group], "resources": list(names), "verbs": ["get", "list"]} for group, names in RIGHTS]
    rbac = "rbac.authorization.k8s.io"
    role = {"apiVersion": f"{rbac}/v1", "kind": "ClusterRole", "metadata": {"name": NAME}, "rules": rules}
    binding = {
        "apiVersion": f"{rbac}/v1",
        "kind": "ClusterRoleBinding",
        "metadata": {"name": NAME},
        "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {
            "name": NAME,
            "namespace": NAMESPACE,
            "annotations": {"kubernetes.io/service-account.name": NAME},
        },
    }
    core, cluster = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/{rbac}/v1"
    return [
        (f"{core}/serviceaccounts/{NAME}", account),
        (f"{cluster}/clusterroles/{NAME}", role),
        (f"{cluster}/clusterrolebindings/{NAME}", binding),
        (f"{core}/secrets/{NAME}", secret),
    ]


def make_access(server: str, authority: str, token: str) -> str:
    """The recorder's kubeconfig. `authority` in base64, as Kubernetes gives it."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "site", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": NAME, "user": {"token": token}}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": NAME}}],
            "current-context": "site",
        }
    )


def make_unit(site: str) -> str:
    """The service. The data disk must be there; a cluster that does not answer is no reason to end."""
    return f"""\
[Unit]
Description=Load of the site, and what its tasks use
After=network-online.target
Wants=network-online.target
RequiresMountsFor=/var/lib/cumulet
ConditionPathExists={ACCESS}

[Service]
ExecStart=/usr/bin/python3 -m cumulet.monitor --kubeconfig {ACCESS} --site {site}
Restart=always
RestartSec=30
StateDirectory=cumulet/monitor
MemoryHigh=96M
CPUWeight=20
Nice=10

[Install]
WantedBy=multi-user.target
"""


async def install(api: Api, device: Device, site: str, server: str, tell: Callable[[str], None]) -> bool:
    """Put the recorder on a device and start it; whether something had to be changed. Raises TargetError."""
    for path, body in make_objects():
        await api.call("PATCH", path, body, query={"fieldManager": NAME, "force": "true"}, content=APPLY)
    authority, token = await _read_token(api)
    files = {ACCESS: (make_access(server, authority, token), 0o600), UNIT: (make_unit(site), 0o644)}
    changed = []
    for path, (text, mode) in files.items():
        if await _read(device, path) != text:
            await device.put(path, text.encode(), mode)
            changed.append(path)
    if changed:
        tell(f"written: {', '.join(changed)}")
        await device.run(("systemctl", "daemon-reload"))
        await device.run(("systemctl", "enable", "cumulet-monitor.service"))
        await device.run(("systemctl", "restart", "cumulet-monitor.service"))
    else:
        await device.run(("systemctl", "start", "cumulet-monitor.service"))
    return bool(changed)


async def _read(device: Device, path: str) -> str:
    try:
        return (await device.read_bytes(path)).decode()
    except TargetError:
        return ""


async def _read_token(api: Api) -> tuple[str, str]:
    """Authority and token, as soon as the cluster has filled them in."""
    deadline = Deadline.after(60)
    while True:
        try:
            data = (await api.call("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/{NAME}")).get("data", {})
        except TargetError as error:
            if status_of(error) != 404:
                raise
            data = {}
        if data.get("token") and data.get("ca.crt"):
            return data["ca.crt"], base64.b64decode(data["token"]).decode()
        deadline.check("the recorder's token")
        await asyncio.sleep(0.5)
