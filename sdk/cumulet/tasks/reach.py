"""How a cluster is reached by whoever looks after it: with a kubeconfig, or through a site's masters over ssh."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from cumulet.core.api import Api
from cumulet.core.errors import TargetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cumulet.site import Site

ADMIN = {"kubeadm": "/etc/kubernetes/admin.conf", "k3s": "/etc/rancher/k3s/k3s.yaml"}
PORT = 6443


class Output(Protocol):
    """What a program on a node has left."""

    @property
    def out(self) -> str:
        """What it has printed."""


class Device(Protocol):
    """A device of the site that is logged in to."""

    async def run(self, argv: Sequence[str], *, input: str | None = None, seconds: float = 120.0) -> Output:
        """Run a program. Raises TargetError."""

    async def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Make a file, whole or not at all. Raises TargetError."""

    async def read_bytes(self, path: str) -> bytes:
        """A file's content. Raises TargetError."""


@dataclass(frozen=True, slots=True)
class Reached:
    """A cluster: its API server, its name, the control node's name, and the devices that can be logged in to."""

    api: Api
    name: str
    control: str = ""
    devices: Mapping[str, Device] = field(default_factory=dict)

    def device(self, name: str) -> Device:
        """A device by name. Raises UsageError if there is none, or no way to it."""
        if name not in self.devices:
            known = ", ".join(self.devices) or "none, with a kubeconfig alone"
            raise UsageError(f"{name}: cannot be logged in to; there are: {known}", hint="-f site.yaml")
        return self.devices[name]


@contextlib.asynccontextmanager
async def reach(site: Path, kubeconfig: Path | None = None) -> AsyncIterator[Reached]:
    """A cluster by its kubeconfig if one is named, else by its site.yaml. Raises TargetError or UsageError."""
    from cumulet.central import Kube, load_access  # noqa: PLC0415 - slow to import

    if kubeconfig is not None:
        kube = Kube(load_access(kubeconfig))
        try:
            yield Reached(kube, kubeconfig.stem)
        finally:
            kube.close()
        return
    from cumulet.site import Site  # noqa: PLC0415 - slow to import

    found = Site.load(site)
    async with found.reachable() as (hosts, lost):
        text, address = await _read_admin(found, hosts, lost)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "admin.conf"
            path.touch(0o600)
            path.write_text(text)
            access = load_access(path)
        # What a master keeps says how it reaches itself.
        kube = Kube(replace(access, server=f"https://{address}:{PORT}"))
        try:
            yield Reached(kube, found.document.site, found.document.control.name, hosts)
        finally:
            kube.close()


async def _read_admin(site: Site, hosts: Mapping[str, Device], lost: Mapping[str, str]) -> tuple[str, str]:
    """An administrator's kubeconfig, and the address of the master that it is from."""
    reasons = []
    for node in site.document.masters:
        if node.name not in hosts:
            reasons.append(lost.get(node.name, f"{node.name}: cannot be reached"))
            continue
        try:
            text = (await hosts[node.name].read_bytes(ADMIN[site.document.distribution])).decode()
        except TargetError as error:
            reasons.append(error.message)
            continue
        return text, node.address
    raise TargetError(f"{site.document.site}: no master lets us in: {'; '.join(reasons)}", hint="cumulet site status")
