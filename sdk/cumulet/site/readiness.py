"""Waiting until nodes are Ready, and granting their kubelets the certificates that the API server checks them by.

A request is granted only if it comes from that node itself and names nothing but the
node's own name and address; every other one is left for a person to look at.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from cumulet.core.errors import TargetError
from cumulet.site.actions import Ready
from cumulet.site.facts import parse_nodes
from cumulet.site.ssh import Host

SIGNER = "kubernetes.io/kubelet-serving"
EVERY = 0.5


async def wait_ready(action: Ready, host: Host) -> None:
    """Wait until every node of the action is Ready. Raises TargetError with those that are not."""
    until = time.monotonic() + action.seconds
    wanted = dict(action.nodes)
    missing = set(wanted)
    while True:
        asked = await host.run((*action.kubectl, "get", "csr,nodes", "-o", "json"), check=False)
        if asked.code == 0:
            items = json.loads(asked.out)["items"]
            grants = find_grants(items, wanted)
            if grants:
                await host.run((*action.kubectl, "certificate", "approve", *grants), check=False)
            nodes = parse_nodes(json.dumps({"items": [each for each in items if each["kind"] == "Node"]}))
            missing = {name for name in wanted if name not in nodes or not nodes[name].ready}
            if not missing:
                return
        if time.monotonic() > until:
            names = ", ".join(sorted(missing))
            reason = "" if asked.code == 0 else f"\n{asked.err.strip()}"
            units = "k3s -u k3s-agent" if action.kubectl[0] == "k3s" else "kubelet"
            message = f"not Ready within {action.seconds:.0f} s: {names}{reason}"
            raise TargetError(message, hint=f"on the device: journalctl -u {units}")
        await asyncio.sleep(EVERY)


def find_grants(items: list[dict[str, Any]], nodes: Mapping[str, str]) -> list[str]:
    """Names of certificate requests that are to be granted. `nodes`: name -> address."""
    return [
        item["metadata"]["name"]
        for item in items
        if item["kind"] == "CertificateSigningRequest"
        and item["spec"].get("signerName") == SIGNER
        and not item.get("status", {}).get("conditions")
        and _is_own(item["spec"], nodes)
    ]


def _is_own(spec: Mapping[str, Any], nodes: Mapping[str, str]) -> bool:
    name = str(spec.get("username", "")).removeprefix("system:node:")
    if name not in nodes or f"system:node:{name}" != spec.get("username"):
        return False
    asked = read_names(spec.get("request", ""))
    return asked is not None and asked <= {name, nodes[name]}


def read_names(request: str) -> set[str] | None:
    """The names and addresses that a certificate request (base64 of PEM) is for; None if it cannot be read."""
    from cryptography import x509  # noqa: PLC0415 - slow to import

    try:
        parsed = x509.load_pem_x509_csr(base64.b64decode(request, validate=True))
        names = parsed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (
        ValueError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ):
        return None
    found = {str(each) for each in names.get_values_for_type(x509.DNSName)}
    found |= {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    return found if len(found) == len(list(names)) else None
