"""The API server of a lab's cluster for the SDK's parts, asked by kubectl on one of its servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from urllib.parse import urlencode

from cumulet.core.errors import TargetError
from cumulet_qemu.lab.lab import Lab

ADMIN = "--kubeconfig=/etc/kubernetes/admin.conf"


class MissingError(TargetError):
    """There is no such object."""

    status = 404


class UnavailableError(TargetError):
    """Whoever answers this part of the API is not there now."""

    status = 503


class Kubectl:
    """See `cumulet.core.api.Api`."""

    def __init__(self, lab: Lab, on: str) -> None:
        self.lab, self.on = lab, on

    async def call(self, method: str, path: str, body: Any = None, **more: Any) -> dict[str, Any]:
        """One request, in a thread of its own: kubectl takes a moment."""
        return await asyncio.to_thread(self._call, method, path, body, more)

    def _call(self, method: str, path: str, body: Any, more: dict[str, Any]) -> dict[str, Any]:
        query = f"?{urlencode(more['query'])}" if method == "GET" and more.get("query") else ""
        text = json.dumps(body) if body is not None else None
        if method == "PATCH" and "apply" in more.get("content", ""):
            words = ["apply", "--server-side", "--force-conflicts", f"--field-manager={more['query']['fieldManager']}"]
            words += ["-o", "json", "-f", "-"]
        elif method == "PATCH":
            *_, namespace, kind, name = path.split("/")
            words, text = ["patch", kind, name, "-n", namespace, "--type=merge", "-o", "json", "-p", text or ""], None
        else:
            verb = {"GET": "get", "POST": "create", "DELETE": "delete"}[method]
            words = [verb, "--raw", path + query, *(["-f", "-"] if text else [])]
        done = self.lab.node(self.on).run("kubectl", ADMIN, *words, input=text, check=False)
        if done.code != 0:
            kind = MissingError if "NotFound" in done.err or "could not find" in done.err else TargetError
            kind = UnavailableError if "ServiceUnavailable" in done.err else kind
            raise kind(f"kubectl {' '.join(words)}: {done.err.strip()}")
        return dict(json.loads(done.out))
