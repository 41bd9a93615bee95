"""A service of ours on a device of a site: an account in its cluster, a kubeconfig, a unit. Twice changes nothing."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from cumulet.core.api import Api, Json, status_of
from cumulet.core.deadline import Deadline
from cumulet.core.errors import TargetError
from cumulet.tasks.reach import Device

APPLY: Final = "application/apply-patch+yaml"
RBAC: Final = "rbac.authorization.k8s.io"
Rule = tuple[str, tuple[str, ...], tuple[str, ...]]
"""API group, resources, verbs."""
ApiObject = tuple[str, Json]
"""Where an object is in the API, and the object."""


@dataclass(frozen=True, slots=True)
class Resident:
    """A service: `name` is that of its account, its secret and its unit, `title` what people call it.

    `objects` are applied in their order; account and secret are in `namespace`. `access` is where its kubeconfig goes,
    `unit` the text of its unit.
    """

    name: str
    title: str
    namespace: str
    objects: Sequence[ApiObject]
    access: str
    unit: str


def make_account(name: str, namespace: str) -> ApiObject:
    """The account that it asks the API server as."""
    meta = {"name": name, "namespace": namespace}
    path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}"
    return path, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta}


def make_secret(name: str, namespace: str) -> ApiObject:
    """Where the cluster puts a token of the account that does not end with the day."""
    notes = {"kubernetes.io/service-account.name": name}
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/service-account-token",
        "metadata": {"name": name, "namespace": namespace, "annotations": notes},
    }
    return f"/api/v1/namespaces/{namespace}/secrets/{name}", secret


def make_rights(name: str, namespace: str, rules: Sequence[Rule], *, only: str = "") -> list[ApiObject]:
    """A role and who has it: in the whole cluster, or `only` in one namespace. The account is in `namespace`."""
    kind, space = ("Role", f"namespaces/{only}/") if only else ("ClusterRole", "")
    meta = {"name": name, "namespace": only} if only else {"name": name}
    made = [{"apiGroups": [group], "resources": list(names), "verbs": list(verbs)} for group, names, verbs in rules]
    head = {"apiVersion": f"{RBAC}/v1", "metadata": meta}
    binding = {
        **head,
        "kind": f"{kind}Binding",
        "roleRef": {"apiGroup": RBAC, "kind": kind, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
    }
    path = f"/apis/{RBAC}/v1/{space}{kind.lower()}"
    return [(f"{path}s/{name}", {**head, "kind": kind, "rules": made}), (f"{path}bindings/{name}", binding)]


def make_access(name: str, server: str, authority: str, token: str) -> str:
    """The account's kubeconfig. `authority` in base64, as Kubernetes gives it."""
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "site", "cluster": {"server": server, "certificate-authority-data": authority}}],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [{"name": "site", "context": {"cluster": "site", "user": name}}],
            "current-context": "site",
        }
    )


async def install_resident(
    api: Api, device: Device, resident: Resident, server: str, tell: Callable[[str], None]
) -> bool:
    """Put a service on a device and start it; whether something had to be changed. Raises TargetError.

    `server` is how the device reaches an API server of the site.
    """
    for path, body in resident.objects:
        await api.call("PATCH", path, body, query={"fieldManager": resident.name, "force": "true"}, content=APPLY)
    authority, token = await _read_token(api, resident)
    unit = f"{resident.name}.service"
    files = {
        resident.access: (make_access(resident.name, server, authority, token), 0o600),
        f"/etc/systemd/system/{unit}": (resident.unit, 0o644),
    }
    changed = []
    for path, (text, mode) in files.items():
        if await _read(device, path) != text:
            await device.put(path, text.encode(), mode)
            changed.append(path)
    if changed:
        tell(f"written: {', '.join(changed)}")
        await device.run(("systemctl", "daemon-reload"))
        await device.run(("systemctl", "enable", unit))
    await device.run(("systemctl", "restart" if changed else "start", unit))
    return bool(changed)


async def _read(device: Device, path: str) -> str:
    try:
        return (await device.read_bytes(path)).decode()
    except TargetError:
        return ""


async def _read_token(api: Api, resident: Resident) -> tuple[str, str]:
    """Authority and token, as soon as the cluster has filled them in."""
    deadline = Deadline.after(60)
    path, _ = make_secret(resident.name, resident.namespace)
    while True:
        try:
            data = (await api.call("GET", path)).get("data", {})
        except TargetError as error:
            if status_of(error) != 404:
                raise
            data = {}
        if data.get("token") and data.get("ca.crt"):
            return data["ca.crt"], base64.b64decode(data["token"]).decode()
        deadline.check(f"{resident.title}'s token")
        await asyncio.sleep(0.5)
