"""What an agent keeps on disk: the device's key, a certificate per hub, which hub it is under, how it is.

Everything appears whole or not at all: the power may go at any moment.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cumulet.central.protocol import EVERY_CLUSTER, make_group, make_hub_hash, make_user
from cumulet.core import proc
from cumulet.core.errors import ToolError
from cumulet.core.files import writing

RENEW_SHARE = 0.25
"""Of its life a certificate has still this much when it is renewed, as Open Cluster Management has it."""
ENROL_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key; times in seconds since 1970."""

    certificate: str
    key: str
    since: float
    until: float

    def is_valid(self, now: float) -> bool:
        """Whether it is good at a time; one that seems to come from the future is, as clocks are what they are."""
        return now < self.until

    def wants_renewal(self, now: float) -> bool:
        """Whether most of its life is over."""
        return now > self.until - RENEW_SHARE * (self.until - self.since)


class Vault:
    """The folder of an agent."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _of(self, server: str) -> Path:
        path = self.folder / make_hub_hash(server)[:16]
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    async def make_request(self, cluster: str, agent: str) -> tuple[str, str]:
        """A certificate request (PEM) of the device's key, and the key's fingerprint. Raises ToolError."""
        groups = [make_group(cluster), EVERY_CLUSTER]
        answer = await self._ask("request", user=make_user(cluster, agent), groups=groups)
        return answer["request"], answer["key"]

    async def get_key(self) -> str:
        """The fingerprint of the device's key, which is made if there is none. Raises ToolError."""
        return str((await self._ask("key"))["key"])

    async def load_identity(self, server: str, user: str) -> Identity | None:
        """The certificate for a hub, if there is one for this user and this device's key."""
        path = self._of(server) / "agent.crt"
        if not path.is_file():
            return None
        return await self._read(path.read_text(), user)

    async def keep_certificate(self, server: str, text: str, user: str) -> Identity:
        """Keep a new certificate. Raises ToolError if it is not for this user and this device's key."""
        found = await self._read(text, user)
        if found is None:
            raise ToolError(f"{server}: the certificate that was issued is not for {user} and this device's key")
        _write(self._of(server) / "agent.crt", text)
        self.forget_request(server)
        return found

    async def _read(self, text: str, user: str) -> Identity | None:
        answer = await self._ask("read", certificate=text)
        if not answer["fits"] or answer["user"] != user:
            return None
        return Identity(text, (self.folder / "device.key").read_text(), answer["since"], answer["until"])

    def keep_request(self, server: str, name: str) -> None:
        """Remember the request that is under way, so that a restart does not make another."""
        _write(self._of(server) / "request", name)

    def load_request(self, server: str) -> str:
        """The name of the request that is under way, or an empty text."""
        path = self._of(server) / "request"
        return path.read_text().strip() if path.is_file() else ""

    def forget_request(self, server: str) -> None:
        """No request is under way any more."""
        (self._of(server) / "request").unlink(missing_ok=True)

    def keep_hub(self, server: str) -> None:
        """Remember which hub we are under."""
        _write(self.folder / "hub", server)

    def load_hub(self) -> str:
        """The hub that we were under last, or an empty text."""
        path = self.folder / "hub"
        return path.read_text().strip() if path.is_file() else ""

    def keep_status(self, status: dict[str, Any]) -> None:
        """Write how the agent is, for people. Not worth a wait for the disk."""
        path = self.folder / "status.json"
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps({**status, "written": time.time()}, indent=1) + "\n")
        temporary.rename(path)

    def load_status(self) -> dict[str, Any] | None:
        """How the agent was when it last wrote it down."""
        try:
            found = json.loads((self.folder / "status.json").read_text())
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    async def _ask(self, verb: str, **more: Any) -> dict[str, Any]:
        asked = json.dumps({"verb": verb, "folder": str(self.folder), **more})
        argv = [sys.executable, "-m", "cumulet.central.agent.enrol"]
        result = await asyncio.to_thread(proc.run, argv, input=asked, timeout=ENROL_SECONDS)
        answer = json.loads(result.out)
        if "error" in answer:
            raise ToolError(f"{self.folder}: {answer['error']}")
        return dict(answer)


def _write(path: Path, text: str) -> None:
    with writing(path) as stream:
        stream.write(text.encode())
    path.chmod(0o600)
