"""The dispatcher on a site's control node: what it may do there, how it is started. A second run changes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Final

from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.dispatch.facts import NAMESPACE
from cumulet.tasks import Device

NAME: Final = "cumulet-dispatch"
ACCESS: Final = "/etc/cumulet/dispatch.conf"
UNIT: Final = "/etc/systemd/system/cumulet-dispatch.service"
APPLY: Final = "application/apply-patch+yaml"
RBAC: Final = "rbac.authorization.k8s.io"
READ: Final = ("get", "list")
WRITE: Final = (*READ, "create", "patch", "delete")
EVERYWHERE: Final = (("", ("nodes", "pods"), READ), ("metrics.k8s.io", ("nodes",), READ))
IN_TASKS: Final = (
    ("cumulet.dev", ("tasks",), READ),
    ("cumulet.dev", ("tasks/status",), ("patch",)),
    ("apps", ("deployments",), WRITE),
    ("batch", ("jobs",), WRITE),
    ("autoscaling", ("horizontalpodautoscalers",), WRITE),
)
"""It writes in one namespace, and nothing there that gives rights."""
Rule = tuple[str, tuple[str, ...], tuple[str, ...]]


def make_objects() -> list[tuple[str, Json]]:
    """Path and object: the namespace of tasks, an account, its rights, and a token that does not end with the day."""
    meta = {"name": NAME, "namespace": NAMESPACE}
    core, here = f"/api/v1/namespaces/{NAMESPACE}", f"/apis/{RBAC}/v1/namespaces/{NAMESPACE}"
    notes = {"kubernetes.io/service-account.name": NAME}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {**meta, "annotations": notes},
    }
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    return [
        (f"/api/v1/namespaces/{NAMESPACE}", space),
        (f"{core}/serviceaccounts/{NAME}", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}),
        (f"/apis/{RBAC}/v1/clusterroles/{NAME}", _make_role("ClusterRole", {"name": NAME}, EVERYWHERE)),
        (f"/apis/{RBAC}/v1/clusterrolebindings/{NAME}", _make_binding("ClusterRole", {"name": NAME})),
        (f"{here}/roles/{NAME}", _make_role("Role", meta, IN_TASKS)),
        (f"{here}/rolebindings/{NAME}", _make_binding("Role", meta)),
        (f"{core}/secrets/{NAME}", secret),
    ]


def _make_role(kind: str, meta: Json, rules: tuple[Rule, ...]) -> Json:
    made = [{"apiGroups": [group], "resources": list(names), "verbs": list(verbs)} for group, names, verbs in rules]
    return {"apiVersion": f"{RBAC}/v1", "kind": kind, "metadata": meta, "rules": made}


def _make_binding(kind: str, meta: Json) -> Json:
    return {
        "apiVersion": f"{RBAC}/v1",
        "kind": f"{kind}Binding",
        "metadata": meta,
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": NAME},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


def make_access(server: str, authority: str, token: str) -> str:
    """The dispatcher's kubeconfig. `authority` in base64, as Kubernetes gives it."""
    cluster = {"server": server, "certificate-authority-data": authority}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "site", "cluster": cluster}],
            "users": [{"name": NAME, "user": {"token": token}}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": NAME}}],
            "current-context": "site",
        }
    )


def make_unit(site: str) -> str:
    """The service. The data disk must be there; a cluster that does not answer is no reason to end."""
    return f"""\
[Unit]
Description=Tasks from the centre: placed, started, told of
After=network-online.target
Wants=network-online.target
RequiresMountsFor=/var/lib/cumulet
ConditionPathExists={ACCESS}

[Service]
ExecStart=/usr/bin/python3 -m cumulet.dispatch --kubeconfig {ACCESS} --site {site}
Restart=always
RestartSec=10
UMask=0077
NoNewPrivileges=yes
MemoryHigh=96M
Nice=5

[Install]
WantedBy=multi-user.target
"""


async def install(api: Api, device: Device, site: str, server: str, tell: Callable[[str], None]) -> bool:
    """Put the dispatcher on a device and start it; whether something had to be changed. Raises TargetError.

    `server` is how the device reaches an API server of the site.
    """
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
        await device.run(("systemctl", "enable", f"{NAME}.service"))
    await device.run(("systemctl", "restart" if changed else "start", f"{NAME}.service"))
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
        deadline.check("the dispatcher's token")
        await asyncio.sleep(0.5)
